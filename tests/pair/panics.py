"""What the tests of panics share: a pair whose red node has a disk for dumps."""

import json
import signal
import subprocess
import unittest

import pair as pair_module
import processes
import scenario

DUMP_DISK = 4


def bring_up(pair, disk_size, dump_disk_size, overrides=None):
    """Both nodes serve, and red's fifth disk, no part of its pool, takes dumps. `overrides`: of red."""
    red = pair.shelves["red"]
    pair.disk_size = disk_size
    red.sizes = [disk_size] * DUMP_DISK + [dump_disk_size]

    def configure(disks):
        red.DISKS = disks
        for node in pair.nodes.values():
            node.write_config(pair.secret, overrides if node is pair.red else None)

    red.DISKS = DUMP_DISK + 1
    for shelf in pair.shelves.values():
        shelf.start()
    configure(DUMP_DISK)
    for node in pair.nodes.values():
        node.init()
    configure(DUMP_DISK + 1)
    for node in pair.nodes.values():
        node.start()
    pair.wait_healthy()
    pair.red.must("disk", "coredump", DUMP_DISK)
    for node in (pair.red, pair.blue):
        reboot(pair, node)  # labels are read every 10 s, and when a node boots
    wait_dump_disk_known(pair)


def wait_dump_disk_known(pair):
    """Both nodes have read its label, and blue that of red's spares which are free."""
    pair.red.wait_status(lambda s: s["counters"]["dump_disks"] == 1, 30, "knows its disk for dumps")
    pair.blue.wait_status(lambda s: s["counters"]["partner_dump_disks"] == 1, 30, "knows red's disk for dumps")


def reboot(pair, node):
    t = processes.boottime_ns()
    processes.send(node.engine_pid(), signal.SIGKILL)
    partner = pair.partner_of(node)
    pair.wait_event("takeover.serving", t, 20, partner.name)
    give_back(pair, partner)


def give_back(pair, survivor):
    survivor.wait_status(lambda s: s["giveback"]["possible"], 60, "can give back")
    survivor.must("giveback", survivor.partner_name)
    pair.wait_healthy()


def read_dump(pair, core=None, disk=DUMP_DISK):
    """What header and dump on the disk say; the core goes to the file `core`. None: only the header."""
    done = subprocess.run([pair.program("dump_reader"), pair.shelves["red"].disk_file(disk),
                           *([core] if core else [])], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@unittest.skipIf(pair_module.time_scale() > 1, "a sanitizer reports crashes itself: there is no dump")
class PanicScenario(scenario.Scenario):
    overrides = {"coredump.test_panics": "true", "engine.progress_limit_ms": 3000}
    dump_disk = DUMP_DISK
    dump_disk_size = "256M"

    def _no_program_broke(self):
        for path in self.pair.directory.glob("*.log"):  # but on purpose
            lines = path.read_text(errors="replace").splitlines()
            path.write_text("\n".join(line for line in lines if "test_panic.cc" not in line))
        super()._no_program_broke()

    def start(self):
        bring_up(self.pair, "256M", self.dump_disk_size)

    def reboot(self, node):
        reboot(self.pair, node)

    def give_back(self, survivor):
        give_back(self.pair, survivor)

    def shelf(self, command):
        answer = self.pair.shelves["red"].command(command)
        self.assertTrue(answer.startswith("ok"), answer)

    def slow_dump_disk(self, milliseconds):
        self.shelf(f"slow {self.dump_disk} {milliseconds}")

    def dump(self):
        """What is on the dump disk."""
        core = self.pair.directory / "core"
        return read_dump(self.pair, core, self.dump_disk), core

    def backtrace(self, core):
        done = subprocess.run(["gdb", "-batch", "-nx", "-ex", "bt 12", self.pair.program("duet-engine"), core],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr
