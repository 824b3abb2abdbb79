"""What must hold after every round of chaos, whatever it was."""

import struct
import subprocess
import time

import pair as pair_module
from chaos_stage import Unclean

SIGNS_OF_A_BUG = ("Sanitizer", "runtime error:", "ASSERT", "UNREACHABLE", "terminate called", "SIGSEGV")
HOME_LIMIT = 90  # s from the repair until both nodes are healthy
SUPERVISOR, ENGINE = 1, 2
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5


def is_home(report):
    """Healthy, and every disk that it had to do without is its own again: tried every second."""
    return (report and pair_module.is_healthy(report)
            and not any(identity["absent_disks"] for identity in report["identities"]))


def come_home(pair, stage, limit=HOME_LIMIT):
    """Whoever serves both identities gives back, until both nodes are home."""
    end = time.monotonic() + limit * pair.scale
    while True:
        reports = {}
        for name, node in pair.nodes.items():
            code = node.process.popen.poll()
            if code is not None:
                if code != 0:
                    raise Unclean(f"duetd of {name} ended by itself with {code}")
                stage.note(f"{name} had halted")
                stage.down.add(name)
                stage.do_start(name)
            reports[name] = node.status()
        if all(is_home(r) for r in reports.values()):
            return reports
        for name, report in reports.items():
            if report and pair_module.serves_both(report) and report["giveback"]["possible"]:
                stage.do_order(name, "giveback", pair.nodes[name].partner_name)
        if time.monotonic() > end:
            raise Unclean(f"not both nodes are home within {limit} s of the repair: {reports}")
        with pair.events.changed:
            pair.events.changed.wait(0.1)


def one_server_each(reports):
    """Each identity is served by exactly one node."""
    for name in pair_module.NODES:
        serving = [n for n, r in reports.items() if pair_module.identity(r, name)["served_here"]]
        if len(serving) != 1:
            raise Unclean(f"{name} is served by {serving}")


class SplitService:
    """Looks for an identity that both nodes say they serve. The answers are not of one instant: so one
    node is asked before and after the other, and it counts only if nothing changed."""

    def __init__(self, pair):
        self.pair = pair

    def look(self, first, second):
        a, b, c = (self.pair.nodes[n].status() for n in (first, second, first))
        if not (a and b and c):
            return
        for name in pair_module.NODES:
            x, y, z = (pair_module.identity(r, name) for r in (a, b, c))
            alone = x["epoch"] == z["epoch"] and x["served_here"] and z["served_here"]
            if alone and x["lease_valid"] and z["lease_valid"] and y["served_here"] and y["lease_valid"]:
                raise Unclean(f"both nodes serve {name}: {x} {y}")


def no_panic_but_ours(pair, stage):
    """A takeover heals a crash so well that it would go unnoticed."""
    for event in pair.events.since(stage.began, "node.panic"):
        if event.node not in stage.touched:
            raise Unclean(f"the engine of {event.node} panicked by itself: {event.text}")


def nothing_lost(load):
    for number, lun in enumerate(load.status()):
        for what in ("lost", "bad_reads", "hard_errors"):
            if lun[what]:
                raise Unclean(f"LUN {number} of the load: {lun[what]} {what}: "
                              f"{load.events('lost')[-3:]} {load.events('bad_read')[-3:]} "
                              f"{load.events('hard_error')[-3:]}")


def keys_of(path):
    """(type, holder's key, all keys) in a reservations file (docs/formats/reservations.md)."""
    data = path.read_bytes()
    kind, (count, holder) = data[7], struct.unpack_from("<II", data, 12)
    keys, at = [], 20
    for _ in range(count):
        keys.append(struct.unpack_from("<Q", data, at)[0])
        at += 18 + struct.unpack_from("<H", data, at + 16)[0]
    return kind, keys[holder] if holder < count else 0, keys


def parts(key):
    return key >> 40 & 0xff, key >> 32 & 0xff, key & 0xffffffff  # node, role, epoch


def reservations_of_home_nodes(pair, reports):
    """Every disk is held by its home node, and has no keys but that node's of this epoch (I6, I12)."""
    for number, (owner, shelf) in enumerate(pair.shelves.items(), 1):
        epoch = pair_module.identity(reports[owner], owner)["epoch"]
        expected = {(number, SUPERVISOR, epoch), (number, ENGINE, epoch)}
        for index in range(shelf.DISKS):
            path = shelf.disk_file(index).with_suffix(".reservations")
            kind, holder, keys = keys_of(path)
            found = [parts(k) for k in keys]
            if (kind != WRITE_EXCLUSIVE_REGISTRANTS_ONLY or parts(holder) != (number, SUPERVISOR, epoch)
                    or set(found) != expected or len(found) != len(expected)):
                raise Unclean(f"{owner}/{index}: reservation type {kind} held by {parts(holder)}, keys "
                              f"(node, process, epoch) {found}; expected {expected}")


class Logs:
    """Looks for signs of a bug in what the programs wrote since the last look."""

    def __init__(self, pair):
        self.pair = pair
        self._read = {}

    def look(self):
        for path in sorted(self.pair.directory.glob("*.log")):
            with open(path, "rb") as f:
                f.seek(self._read.get(path, 0))
                text = f.read()
            self._read[path] = self._read.get(path, 0) + len(text)
            for line in text.decode(errors="replace").splitlines():
                if any(sign in line for sign in SIGNS_OF_A_BUG):
                    raise Unclean(f"{path.name}: {line}")


class Pattern:
    """Another initiator (qemu-io) on a LUN of its own: what it wrote before a round is there after it."""

    SIZE = 8 << 20

    def __init__(self, url):
        self.url = url
        self._written = {}  # offset: pattern

    def _run(self, commands):
        argv = ["qemu-io", "-f", "raw", "-t", "none"]
        for command in commands:
            argv += ["-c", command]
        done = subprocess.run([*argv, self.url], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode or "failed" in done.stdout + done.stderr:
            raise Unclean(f"qemu-io {commands} {self.url}: {done.stdout}{done.stderr}")

    def write(self, number):
        """Overwrites a quarter of it in requests of 1 MiB and some small odd ones."""
        quarter, pattern = number % 4 * (self.SIZE // 4), number % 255 + 1
        self._written[quarter] = pattern
        self._run([f"write -P {pattern} {quarter} 1M", f"write -P {pattern} {quarter + (1 << 20)} 900k",
                   f"write -P {pattern} {quarter + (1 << 20) + 900 * 1024} 124k"])

    def verify(self):
        if self._written:
            self._run([f"read -P {p} {at} {self.SIZE // 4}" for at, p in self._written.items()])
