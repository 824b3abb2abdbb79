"""What the tests of panics share: a pair whose red node has a disk for dumps."""

import json
import signal
import subprocess
import unittest

import pair as pair_module
import processes
import scenario

DUMP_DISK = 4


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
        red = self.pair.shelves["red"]
        self.pair.disk_size = "256M"
        red.sizes = ["256M"] * DUMP_DISK + [self.dump_disk_size]
        red.DISKS = DUMP_DISK + 1
        for shelf in self.pair.shelves.values():
            shelf.start()
        red.DISKS = DUMP_DISK  # the last one is no part of the pool
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.init()
        red.DISKS = DUMP_DISK + 1
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.start()
        self.pair.wait_healthy()
        self.red.must("disk", "coredump", DUMP_DISK)
        for node in (self.red, self.blue):
            self.reboot(node)  # labels are read every 10 s, and when a node boots

    def reboot(self, node):
        t = processes.boottime_ns()
        processes.send(node.engine_pid(), signal.SIGKILL)
        partner = self.pair.partner_of(node)
        self.pair.wait_event("takeover.serving", t, 20, partner.name)
        self.give_back(partner)

    def give_back(self, survivor):
        survivor.wait_status(lambda s: s["giveback"]["possible"], 60, "can give back")
        survivor.must("giveback", survivor.partner_name)
        self.pair.wait_healthy()

    def shelf(self, command):
        answer = self.pair.shelves["red"].command(command)
        self.assertTrue(answer.startswith("ok"), answer)

    def slow_dump_disk(self, milliseconds):
        self.shelf(f"slow {self.dump_disk} {milliseconds}")

    def dump(self):
        """What is on the dump disk."""
        core = self.pair.directory / "core"
        done = subprocess.run([self.pair.program("dump_reader"), self.pair.shelves["red"].disk_file(self.dump_disk), core],
                              capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout), core

    def backtrace(self, core):
        done = subprocess.run(["gdb", "-batch", "-nx", "-ex", "bt 12", self.pair.program("duet-engine"), core],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr
