"""Networks of a test's own: a client and two nodes on one bridge, as on one switch, and a second one behind.

    192.0.2.0/24, 2001:db8::/64      client .100, observer .101, red .1, blue .2      interface cli0
    10.79.0.0/24                     shelves, red .1, blue .2                         interface back0

Each machine is a network namespace without a name, which lives as long as the process that holds it. That
one dies with us: nothing is left behind, whatever happens.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading

import processes

CLONE_NEWNET = 0x40000000
MACHINES = ("switch", "client", "observer", "red", "blue")
HARDWARE = {"client": "02:00:00:00:00:64", "observer": "02:00:00:00:00:65",
            "red": "02:00:00:00:00:01", "blue": "02:00:00:00:00:02"}
# The end of their addresses; in IPv6 read as hexadecimal.
NUMBER = {"client": 100, "observer": 101, "red": 1, "blue": 2}
SHELF_HOSTS = [f"10.79.0.{n}" for n in (11, 12, 21, 22)]

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why this machine cannot have such networks; empty: it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            return f"needs {program} (Debian package {package})"
    done = subprocess.run(["unshare", "--net", "ip", "link", "add", "v0", "type", "veth", "peer", "v1"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"no network namespace with virtual cables can be made: {done.stderr.strip()}"
    return ""


class Machine:
    def __init__(self, name):
        self.name = name
        self.holder = processes.Process(["unshare", "--net", "sleep", "infinity"])
        self.path = f"/proc/{self.holder.pid}/ns/net"
        ours = os.readlink("/proc/self/ns/net")
        processes.wait_until(lambda: self._its() not in (None, ours), 10, f"a namespace for {name}")
        self.ip("link", "set", "lo", "up")

    def _its(self):
        try:
            return os.readlink(self.path)
        except OSError:
            return None

    def enter(self):
        """In front of a command that shall run there."""
        return ["nsenter", f"--net={self.path}", "--"]

    def run(self, *argv):
        done = subprocess.run([*self.enter(), *map(str, argv)], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done.stdout

    def ip(self, *arguments):
        return self.run("ip", *arguments)

    def call(self, function):
        """Runs `function` there and returns its result. A socket that it opens stays there."""
        outcome = []

        def work():
            fd = os.open(self.path, os.O_RDONLY)
            try:
                if libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                outcome.append((function(), None))
            except Exception as e:  # handed over to the caller
                outcome.append((None, e))
            finally:
                os.close(fd)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        result, error = outcome[0]
        if error:
            raise error
        return result

    def close(self):
        self.holder.end()


class Lan:
    def __init__(self):
        self.machines = {}
        try:
            for name in MACHINES:
                self.machines[name] = Machine(name)
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name):
        return self.machines[name]

    def _build(self):
        switch = self["switch"]
        for bridge in ("clients", "back"):
            switch.ip("link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            switch.ip("link", "set", bridge, "up")
        for host in SHELF_HOSTS:
            switch.ip("address", "add", f"{host}/24", "dev", "back")
        for name, hardware in HARDWARE.items():
            self._cable(name, "cli0", "clients", hardware)
            own = NUMBER[name]
            self[name].ip("address", "add", f"192.0.2.{own}/24", "dev", "cli0")
            self[name].ip("address", "add", f"2001:db8::{own}/64", "dev", "cli0", "nodad")
            if name in ("red", "blue"):
                self._cable(name, "back0", "back", hardware.replace("02:", "06:", 1))
                self[name].ip("address", "add", f"10.79.0.{own}/24", "dev", "back0")

    def _cable(self, name, interface, bridge, hardware):
        machine, port = self[name], f"{name}-{interface}"
        self["switch"].ip("link", "add", port, "type", "veth", "peer", "name", interface, "address",
                          hardware, "netns", machine.holder.pid)
        self["switch"].ip("link", "set", port, "master", bridge, "up")
        machine.ip("link", "set", interface, "up")

    def connect(self, host, port, timeout=5):
        """A TCP connection from the client."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def dial():
            s = socket.socket(family)
            s.settimeout(timeout)
            try:
                s.connect((host, port))
            except BaseException:
                s.close()
                raise
            return s

        return self["client"].call(dial)

    def neighbour(self, address):
        """The hardware address that the client has for `address`; None: none."""
        words = self["client"].ip("neighbour", "show", "to", address, "dev", "cli0").split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else None

    def close(self):
        for machine in self.machines.values():
            with contextlib.suppress(OSError):
                machine.close()
        self.machines = {}
