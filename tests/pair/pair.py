"""A complete pair on this machine: two shelves, two nodes, their configuration, and their cleanup.

    with Pair() as pair:
        pair.start()                       # shelves, labels, both nodes up and mirrored
        url = pair.create_lun("red", "demo")
        pair.red.crash_engine()            # or kill(), stop(), resume()
        pair.wait_event("takeover.serving", since)

Everything lives in a directory of its own, in /dev/shm (NVRAM), and on loopback addresses of a /24 of
its own, so any number of pairs run side by side. close() ends every process by its pid; they also die
with this process, unless the pair was made to be kept.
"""

import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import events
import forwarder
import processes
from processes import boottime_ns

INTERCONNECT_PORT = 7001
MIRROR_PORT = 7002
ISCSI_PORT = 3260
NODES = ("red", "blue")
SERVING_ALONE = "taken_over_partner"


def bin_directory():
    default = pathlib.Path(__file__).resolve().parents[2] / "build" / "release" / "bin"
    return pathlib.Path(os.environ.get("DUET_BIN", default)).resolve()


def time_scale():
    """How much slower than a release build everything may be: 3 with sanitizers."""
    if "DUET_TIME_SCALE" in os.environ:
        return float(os.environ["DUET_TIME_SCALE"])
    return 3.0 if any(s in str(bin_directory()) for s in ("asan", "tsan")) else 1.0


def free_network():
    """A random /24 of loopback on which none of our ports is taken."""
    for _ in range(100):
        network = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
        try:
            for host, port in [(1, INTERCONNECT_PORT), (1, MIRROR_PORT), (11, ISCSI_PORT)]:
                with socket.socket() as s:
                    s.bind((f"{network}.{host}", port))
            return network
        except OSError:
            continue
    raise RuntimeError("no free loopback network: something holds the ports on all addresses")


def remove_stale_nvram():
    """Of pairs whose process was killed before it could clean up."""
    for path in pathlib.Path("/dev/shm").glob("duet-pair-*-*"):
        pid = path.name.split("-")[2]
        if pid.isdigit() and not processes.alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


class Shelf:
    """One duet-shelf with four disks, and a portal for each node's path."""

    DISKS = 4
    OPTIONS = ()  # of duet-shelf, besides

    def __init__(self, pair, owner, number):
        self.pair = pair
        self.owner = owner
        self.iqn = f"iqn.2026-11.org.duet:shelf.{owner}"
        self.directory = pair.directory / f"shelf-{owner}"
        self.control = pair.directory / f"shelf-{owner}.sock"
        self.hosts = {node: f"{pair.network}.{10 * number + i}" for i, node in enumerate(NODES, 1)}
        self.process = None
        self.sizes = None  # of the disks, where they differ

    def start(self):
        self.directory.mkdir(exist_ok=True)
        portals = [f"{self.hosts[node]}:{ISCSI_PORT}" for node in NODES]
        argv = [*self.pair.enter("shelf"), self.pair.program("duet-shelf"), "--dir", self.directory, "--disks", self.DISKS,
                "--size", *(self.sizes or [self.pair.disk_size]), "--iqn", self.iqn, "--control", self.control,
                *self.OPTIONS]
        for portal in portals:
            argv += ["--portal", portal]
        self.process = self.pair.spawn(argv, f"shelf-{self.owner}.log")
        for host in self.hosts.values():
            processes.wait_until(lambda h=host: self._answers(h), 10 * self.pair.scale,
                                 f"the shelf of {self.owner} answers")

    def _answers(self, host):
        if not self.process.running():
            raise RuntimeError(f"duet-shelf ended: {self.pair.tail(f'shelf-{self.owner}.log')}")
        return self.pair.answers(host)

    def kill(self):
        self.process.end()

    def command(self, line, timeout=5):
        """Sends a line to the test-only control channel; returns the answer line."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(str(self.control))
            s.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                chunk = s.recv(4096)
                if not chunk:
                    break
                answer += chunk
        return answer.decode().strip()

    def disk_file(self, index):
        """The file that holds disk `index`."""
        return self.directory / f"disk-{index:03}.img"


class Node:
    def __init__(self, pair, number, name, partner_name):
        self.pair = pair
        self.number = number
        self.name = name
        self.partner_name = partner_name
        self.address = f"{pair.network}.{number}"
        self.service_address = f"{pair.network}.{30 + number}"
        self.iqn = f"iqn.2026-11.org.duet:demo.{name}"
        self.directory = pair.directory / name
        self.config = self.directory / "node.toml"
        self.secret = self.directory / "secret"
        self.nvram = pair.nvram_directory / f"{name}.nvram"
        self.process = None
        self.stopped = []

    # ---- configuration ----

    def write_config(self, secret, overrides=None):
        """`overrides`: {"table.key": TOML text} put in place of the defaults."""
        self.directory.mkdir(exist_ok=True)
        self.secret.touch(mode=0o600)
        self.secret.write_bytes(secret)
        partner = self.pair.network + (f".{100 + 3 - self.number}" if self.pair.cable else
                                       f".{3 - self.number}")
        tables = {
            "cluster": {"name": '"demo"', "secret_file": f'"{self.secret}"'},
            "node": {"id": self.number, "name": f'"{self.name}"',
                     "partner_name": f'"{self.partner_name}"',
                     "runtime_dir": f'"{self.directory / "run"}"'},
            "interconnect": {"provider": '"tcp"', "address": f'"{self.address}"',
                             "port": INTERCONNECT_PORT, "partner_address": f'"{partner}"',
                             "partner_port": INTERCONNECT_PORT, "mirror_port": MIRROR_PORT},
            "nvram": {"path": f'"{self.nvram}"', "size": '"64MiB"', "allow_volatile": "true"},
            "engine": {"cache": '"64MiB"'},
            "takeover": {},
        }
        if self.pair.scale > 1:  # sanitizers make everything late: patience grows with them
            for key, ms in (("interconnect_silence_ms", 500), ("mailbox_silence_ms", 800)):
                tables["takeover"][key] = int(ms * self.pair.scale)
        for path, value in {**self.pair.overrides, **(overrides or {})}.items():
            table, key = path.split(".")
            tables.setdefault(table, {})[key] = value
        text = ""
        for table, keys in tables.items():
            text += f"[{table}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) + "\n"
        for number, owner in enumerate(NODES, 1):
            shelf = self.pair.shelves[owner]
            text += (f"[[shelf]]\nowner = {number}\nportal = \"{shelf.hosts[self.name]}:{ISCSI_PORT}\"\n"
                     f"iqn = \"{shelf.iqn}\"\nluns = {list(range(shelf.DISKS))}\n\n")
            node = self.pair.nodes[owner]
            text += (f"[[service]]\nidentity = {number}\niqn = \"{node.iqn}\"\n"
                     f"address = \"{node.service_address}\"\nport = {ISCSI_PORT}\n"
                     f"{self.pair.service_keys}\n")
        self.config.write_text(text)

    # ---- the command ----

    def duet(self, *arguments, timeout=90):
        """Runs `duet`; returns (exit code, standard output, standard error)."""
        done = subprocess.run(
            [*self.pair.enter(self.name), self.pair.program("duet"), "--config", self.config,
             *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr

    def begin(self, *arguments):
        """Starts `duet` and does not wait for it: a Popen with pipes."""
        return subprocess.Popen(
            [*self.pair.enter(self.name), self.pair.program("duet"), "--config", self.config,
             *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def json(self, *arguments, timeout=10):
        """Runs `duet ... --json`; returns (exit code, parsed output or None)."""
        code, out, _ = self.duet(*arguments, "--json", timeout=timeout)
        return code, json.loads(out) if out.strip() else None

    def status(self):
        """Parsed status, or None while the daemon cannot be reached."""
        code, report = self.json("status")
        return report if code == 0 else None

    def must(self, *arguments, timeout=90):
        code, out, error = self.duet(*arguments, timeout=timeout)
        if code != 0:
            raise RuntimeError(f"duet {' '.join(map(str, arguments))} on {self.name}: "
                               f"exit code {code}: {error.strip() or out.strip()}")
        return out

    def init(self, force=False):
        return self.must("init", *(["--force"] if force else []))

    # ---- life and death ----

    def start(self):
        if self.process and self.process.running():
            raise RuntimeError(f"{self.name} runs already")
        (self.directory / "run").mkdir(exist_ok=True)
        self.process = self.pair.spawn([*self.pair.enter(self.name), self.pair.program("duetd"),
                                        "--config", self.config], f"{self.name}.log")
        self.pair.events.follow(
            self.name, [self.pair.program("duet"), "--config", self.config, "events", "-f", "--json"],
            self.pair.directory / f"{self.name}.events.err")

    def engine_pid(self):
        """Pid of the engine, checked to be one of this node's processes. 0: none."""
        report = self.status()
        pid = int(report["engine_pid"]) if report else 0
        return pid if pid in self.process.family() else 0

    def crash_engine(self):
        """The engine panics (SIGABRT). Returns when, on CLOCK_BOOTTIME."""
        pid = processes.wait_until(self.engine_pid, 5, f"{self.name} has an engine")
        t = boottime_ns()
        processes.send(pid, signal.SIGABRT)
        return t

    def kill(self):
        """The whole node at once (SIGKILL to all its processes)."""
        pids = self.process.family()
        self.pair.events.stop(self.name)
        t = boottime_ns()
        for pid in pids:
            processes.send(pid, signal.SIGKILL)
        self.process.end()
        return t

    def stop(self):
        """The whole node stands still (SIGSTOP)."""
        self.stopped = self.process.family()
        t = boottime_ns()
        for pid in self.stopped:
            processes.send(pid, signal.SIGSTOP)
        return t

    def resume(self):
        t = boottime_ns()
        for pid in self.stopped:
            processes.send(pid, signal.SIGCONT)
        self.stopped = []
        return t

    def shut_down(self, patience=10):
        """SIGTERM to the supervisor; returns its exit code."""
        self.pair.events.stop(self.name)
        processes.send(self.process.pid, signal.SIGTERM)
        code = self.process.wait(patience)
        self.process.end()
        return code

    def wait_status(self, condition, timeout, what):
        """Until condition(status) holds; wakes on every event. Returns the status."""
        limit = time.monotonic() + timeout * self.pair.scale
        report = None
        while True:
            if self.process and not self.process.running():
                raise RuntimeError(f"duetd of {self.name} ended with {self.process.popen.returncode}: "
                                   f"{self.pair.tail(self.name + '.log')}")
            report = self.status()
            if report and condition(report):
                return report
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.name}: {what}: not within {timeout * self.pair.scale} s; "
                                   f"status {json.dumps(report)}")
            with self.pair.events.changed:
                self.pair.events.changed.wait(0.05)


class Pair:
    # What a pair on several networks says otherwise (tests/network).
    service_keys = ""  # more of each [[service]]

    def choose_network(self):
        return free_network()

    def enter(self, where):
        """In front of a command: how it gets to where it runs. `where`: a node, "shelf" or "client"."""
        return []

    def answers(self, host):
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex((host, ISCSI_PORT)) == 0

    def __init__(self, cable=False, keep=False, overrides=None, disk_size="1G"):
        """`cable`: the interconnect runs through forwarders that can be cut. `keep`: the processes
        outlive us. `overrides`: of the configuration, as for Node.write_config."""
        self.scale = time_scale()
        self.disk_size = disk_size
        self.cable = cable
        self.keep = keep
        self.overrides = overrides or {}
        self.network = self.choose_network()
        remove_stale_nvram()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="duet-pair-"))
        self.nvram_directory = pathlib.Path(tempfile.mkdtemp(
            prefix=f"duet-pair-{os.getpid()}-" if not keep else "duet-kept-", dir="/dev/shm"))
        self.events = events.EventLog()
        self.cables = []
        self._processes = []
        self._on_close = []
        self.shelves = {name: Shelf(self, name, i) for i, name in enumerate(NODES, 1)}
        self.nodes = {name: Node(self, i, name, NODES[2 - i]) for i, name in enumerate(NODES, 1)}
        self.red = self.nodes["red"]
        self.blue = self.nodes["blue"]
        self.secret = secrets.token_bytes(32)

    # ---- parts ----

    def program(self, name):
        path = bin_directory() / name
        if not path.exists():
            raise FileNotFoundError(f"{path}: build it first (./dev build), or set DUET_BIN")
        return path

    def spawn(self, argv, log_name):
        process = processes.Process(argv, log=self.directory / log_name, die_with_us=not self.keep,
                                    cwd=self.directory)
        self._processes.append(process)
        return process

    def on_close(self, action):
        self._on_close.append(action)

    def tail(self, log_name, lines=15):
        path = self.directory / log_name
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def partner_of(self, node):
        return self.nodes[node.partner_name]

    # ---- life ----

    def prepare(self):
        """Shelves up, configuration written, labels on the disks."""
        if self.cable:
            ports = (INTERCONNECT_PORT, MIRROR_PORT)
            for n in (1, 2):
                self.cables.append(forwarder.Forwarder(f"{self.network}.{100 + n}",
                                                       f"{self.network}.{n}", ports))
        for shelf in self.shelves.values():
            shelf.start()
        for node in self.nodes.values():
            node.write_config(self.secret)
            node.init()

    def start(self):
        """Everything; returns when both nodes serve and mirror each other."""
        self.prepare()
        for node in self.nodes.values():
            node.start()
        self.wait_healthy(30)

    def wait_healthy(self, timeout=30):
        """Both up, each serving its own identity, both logs mirrored."""
        for node in self.nodes.values():
            node.wait_status(is_healthy, timeout, "up and mirrored")

    def create_lun(self, node_name, lun_name="demo", size="512MiB"):
        """Returns its URL."""
        node = self.nodes[node_name]
        node.must("lun", "create", lun_name, size)
        _, report = node.json("lun", "list")
        number = next(l["lun"] for l in report["luns"]
                      if l["name"] == lun_name and l["identity"] == node.number)
        return self.url(node_name, number)

    def url(self, node_name, lun):
        """libiscsi takes the number as it is on the wire: flat space addressing from 256 on (SAM-5 4.7)."""
        node = self.nodes[node_name]
        lun = lun if lun < 256 else 0x4000 | lun
        host = f"[{node.service_address}]" if ":" in node.service_address else node.service_address
        return f"iscsi://{host}:{ISCSI_PORT}/{node.iqn}/{lun}"

    def wait_event(self, phase, since, timeout=20, node=None):
        return self.events.wait(phase, since, timeout * self.scale, node)

    def cut_interconnect(self):
        for cable in self.cables:
            cable.cut()

    def heal_interconnect(self):
        for cable in self.cables:
            cable.heal()

    def server_pids(self):
        return [pid for p in self._processes if p.running() for pid in p.family()]

    # ---- the end ----

    def detach(self):
        """For a pair to keep: writes what stop_kept() needs, and lets go of it."""
        self.events.stop()
        pids = [pid for p in self._processes if p.running() for pid in p.family()]
        record = {"directory": str(self.directory), "nvram": str(self.nvram_directory),
                  "processes": [{"pid": p, "start": processes.start_time(p)} for p in pids]}
        path = self.directory / "pair.json"
        path.write_text(json.dumps(record))
        self._processes.clear()
        return path

    def close(self):
        self.events.stop()
        for action in reversed(self._on_close):
            action()
        for process in reversed(self._processes):  # nodes before shelves
            process.end()
        for cable in self.cables:
            cable.close()
        self.cables = []
        self._processes.clear()
        self._on_close.clear()
        shutil.rmtree(self.nvram_directory, ignore_errors=True)
        if os.environ.get("DUET_KEEP_LOGS"):
            print(f"logs: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._processes:
            self.close()


def state_of(report):
    return report["state"].replace(" ", "_").replace("-", "_").lower() if report else None


def identity(report, name):
    return next(i for i in report["identities"] if i["name"] == name)


def is_healthy(report):
    own = identity(report, report["name"])
    return (state_of(report) == "up" and report["link"] == "ready" and own["served_here"]
            and own["durability"] == "mirrored" and report["mirror_incoming"])


def serves_both(report):
    return all(i["served_here"] and i["lease_valid"] for i in report["identities"])


def stop_kept(record_path):
    """Ends a pair that was kept: exactly its processes, then its files."""
    record = json.loads(pathlib.Path(record_path).read_text())
    for entry in record["processes"]:
        if processes.start_time(entry["pid"]) == entry["start"]:
            processes.send(entry["pid"], signal.SIGKILL)
    # A node starts its engine anew until its supervisor is gone; the engine ends with it.
    for entry in record["processes"]:
        processes.wait_until(lambda e=entry: not processes.alive(e["pid"])
                             or processes.start_time(e["pid"]) != e["start"], 5,
                             f"process {entry['pid']} ends")
    for key in ("directory", "nvram"):
        path = pathlib.Path(record[key])
        if path.name.startswith(("duet-pair-", "duet-kept-")):
            shutil.rmtree(path, ignore_errors=True)


def exit_on_signals():
    """SIGTERM unwinds like SIGINT, so that `with Pair()` cleans up."""
    def unwind(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, unwind)
