#!/usr/bin/python3
"""The disk for a dump is a spare, the only one: it takes the dump, unless redundancy needs it."""

import unittest

import panics
import processes
from test_storage import qemu_io

SPARE = 3
FAILING = 1


def disk(report, lun):
    """Has no place for a while after it came back."""
    return next((d for d in report["disks"] if d["lun"] == str(lun)), {"member": "", "state": ""})


class PanicSpare(panics.PanicScenario):
    dump_disk = SPARE

    def start(self):
        """Red serves from disks 0, 1 and 2, and has said that the spare is free for a dump."""
        self.pair.disk_size = "256M"
        self.pair.prepare()
        self.red.must("init", "--force", "--spares", "1")
        for node in self.pair.nodes.values():
            node.start()
        free = self.pair.wait_event("coredump.spares", 0, 20, "red")
        self.assertIn("free for a dump", free.text)
        self.pair.wait_healthy()
        url = self.pair.create_lun("red", "data", "32MiB")
        self.assertTrue(qemu_io(url, "write -P 1 0 8M", "flush"))
        return url

    def panic(self):
        panics.wait_dump_disk_known(self.pair)
        t = processes.boottime_ns()
        self.red.must("node", "panic")
        self.pair.wait_event("takeover.serving", t, 20, "blue")
        return t

    def attribute(self):
        return self.dump()[0]["attribute"]

    def pool(self):
        return self.blue.json("pool", "status", "--identity", "red")[1]

    def cores(self, node):
        return node.json("core", "list", "--identity", "red")[1]["cores"]

    def test_the_spare_takes_the_dump_and_is_a_spare_again(self):
        url = self.start()
        t = self.panic()
        self.pair.wait_event("node.dumped", t, 30, "red")
        self.pair.wait_event("coredump.saved", t, 30, "blue")
        self.assertEqual(len(self.cores(self.blue)), 1)
        self.assertEqual(self.attribute(), "inactive")
        t = processes.boottime_ns()
        self.give_back(self.blue)
        self.assertEqual(len(self.cores(self.red)), 1)
        # Red says so again, and takes it when a disk fails.
        self.pair.wait_event("coredump.spares", t, 20, "red")
        t = processes.boottime_ns()
        self.red.must("disk", "fail", FAILING)
        taken = self.pair.wait_event("coredump.spares", t, 20, "red")
        self.assertIn("no spare is free", taken.text)
        processes.wait_until(lambda: disk(self.red.json("pool", "status")[1], SPARE)["state"] == "in_sync", 30,
                             "the spare is rebuilt")
        self.assertTrue(qemu_io(url, "read -P 1 0 8M"))

    def test_redundancy_beats_the_dump(self):
        url = self.start()
        self.slow_dump_disk(100)  # what is on it is read within a second
        t = self.panic()
        self.slow_dump_disk(600)
        self.pair.wait_event("node.dumping", t, 20, "red")
        self.assertEqual(self.attribute(), "active")
        self.shelf(f"power-off {FAILING}")
        self.assertTrue(qemu_io(url, "write -P 2 0 2M", "flush"), "service goes on")
        self.blue.must("snapshot", "create", "degraded", "--identity", "red")  # a consistency point
        taken = self.pair.wait_event("takeover.disk_taken", t, 30, "blue")
        self.assertIn("needed", taken.text)
        self.slow_dump_disk(0)
        self.pair.wait_event("node.dump_failed", t, 30, "red")
        processes.wait_until(lambda: (lambda r: disk(r, SPARE)["member"] == f"m{FAILING}" and
                                      disk(r, SPARE)["state"] == "in_sync")(self.pool()), 60, "the spare is rebuilt")
        self.assertEqual(self.attribute(), "inactive")
        self.assertEqual(self.cores(self.blue), [])
        self.assertTrue(qemu_io(url, "read -P 2 0 2M", "read -P 1 2M 6M"))
        self.blue.must("disk", "fail", "0", "--identity", "red")  # so what was rebuilt is read
        self.assertTrue(qemu_io(url, "read -P 2 0 2M", "read -P 1 2M 6M"))
        self.shelf(f"power-on {FAILING}")
        self.give_back(self.blue)
        self.assertTrue(qemu_io(url, "read -P 2 0 2M", "read -P 1 2M 6M"))


if __name__ == "__main__":
    unittest.main()
