#!/usr/bin/python3
"""Dumps that something goes wrong with, and core files that are made while the pair moves: clients are
served meanwhile, both nodes come home, and what is kept of the dump is exact."""

import os
import signal
import subprocess
import unittest

import panics
import processes
from panics import DUMP_DISK


class DumpLosses(panics.PanicScenario):
    overrides = {**panics.PanicScenario.overrides, "coredump.include_cache": "true"}

    def cores(self, node):
        code, listing = node.json("core", "list", "--identity", "red")
        return listing["cores"] if code == 0 else []

    def saved(self, node, t, count=1):
        """The newest core, once there are so many."""
        self.pair.wait_event("coredump.saved", t, 60, node.name)
        cores = self.cores(node)
        self.assertEqual(len(cores), count, cores)
        self.assertFalse(any(core["collecting"] for core in cores), cores)
        return max(cores, key=lambda core: core["created_ns"])

    def panic(self, kind="null"):
        panics.wait_dump_disk_known(self.pair)
        t = processes.boottime_ns()
        self.red.must("node", "panic", "--kind", kind)
        return t

    def assert_serves_first(self, t, phase):
        """The partner serves before red's dump has ended."""
        serving = self.pair.wait_event("takeover.serving", t, 20, "blue")
        ended = self.pair.wait_event(phase, t, 30, "red")
        self.assertLess(serving.t, ended.t)
        return ended

    def fill_cache(self, node_name, megabytes):
        """With what does not compress."""
        url = self.pair.create_lun(node_name, "noise", "64MiB")
        noise = self.pair.directory / "noise"
        noise.write_bytes(os.urandom(megabytes << 20))
        done = subprocess.run(["qemu-io", "-f", "raw", "-t", "none", "-c", f"write -s {noise} 0 {megabytes}M", url],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class TimeLimit(DumpLosses):
    overrides = {**DumpLosses.overrides, "coredump.limit_ms": 1500}

    def test_a_slow_disk_and_one_that_fails(self):
        self.start()
        with self.subTest("slow"):
            self.slow_dump_disk(400)
            t = self.panic()
            ended = self.assert_serves_first(t, "node.dump_failed")
            self.assertIn("limit", ended.text)
            self.assertLess(ended.t - self.pair.events.since(t, "node.dumping")[0].t, 4_000_000_000)
            self.slow_dump_disk(0)
            core = self.saved(self.blue, t)
            self.assertFalse(core["details"]["complete"], core)
            self.assertIn("signal 11", core["details"]["reason"])
            self.give_back(self.blue)
        with self.subTest("fails"):
            self.slow_dump_disk(200)
            t = self.panic()
            self.pair.wait_event("node.dumping", t, 20, "red")
            self.shelf(f"fail {DUMP_DISK}")
            self.assert_serves_first(t, "node.dump_failed")
            self.shelf(f"heal {DUMP_DISK}")
            self.slow_dump_disk(0)
            self.give_back(self.blue)


class TooSmall(DumpLosses):
    dump_disk_size = "24M"

    def test_a_disk_that_is_too_small(self):
        self.start()
        self.fill_cache("red", 40)
        t = self.panic()
        self.assertIn("does not fit", self.pair.wait_event("node.dump_failed", t, 30, "red").text)
        core = self.saved(self.blue, t)
        self.assertFalse(core["details"]["complete"], core)
        self.assertGreater(int(core["details"]["core_bytes"]), 16 << 20)
        self.give_back(self.blue)


class Moves(DumpLosses):
    def test_giveback_while_saving_and_a_second_panic(self):
        self.start()
        lun = self.pair.create_lun("red")
        load = self.load([lun])
        self.slow_dump_disk(200)
        t = self.panic()
        self.pair.wait_event("node.dumped", t, 60, "red")
        self.pair.wait_event("dump.collecting", t, 20, "blue")
        report = self.blue.wait_status(
            lambda s: [veto["name"] for veto in s["giveback"]["vetoes"]] == ["coredump_in_progress"], 30,
            "waits for the core only")
        self.assertFalse(report["giveback"]["possible"])
        code, out, error = self.blue.duet("giveback", "red")
        self.assertEqual(code, 3, out + error)
        self.assertIn("coredump_in_progress", out + error)
        self.blue.must("giveback", "red", "--override=coredump_in_progress")
        self.pair.wait_healthy()
        self.slow_dump_disk(0)
        core = self.saved(self.red, t)
        self.assertTrue(core["details"]["complete"], core)

        t = self.panic("abort")
        core = self.saved(self.blue, t, count=2)
        self.assertTrue(core["details"]["complete"], core)
        file = self.pair.directory / "saved"
        self.blue.must("core", "save", core["id"], file, "--identity", "red")
        self.assertIn("abort_in_a_thread", self.backtrace(file))
        self.give_back(self.blue)
        self.assertEqual(len(self.cores(self.red)), 2)
        self.come_home(load)

    def test_the_survivor_ends_too(self):
        self.start()
        with self.subTest("while it saves"):
            self.slow_dump_disk(200)
            t = self.panic()
            self.pair.wait_event("dump.collecting", t, 60, "blue")
            self.blue.kill()
            self.slow_dump_disk(0)
            self.blue.start()
            self.bring_home()
            processes.wait_until(lambda: [core for core in self.cores(self.red) if not core["collecting"]], 30,
                                 "the core is saved")
            self.assertTrue(self.cores(self.red)[0]["details"]["complete"])
        with self.subTest("while red dumps"):
            self.slow_dump_disk(200)
            t = self.panic()
            self.pair.wait_event("node.dumping", t, 20, "red")
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            processes.send(self.blue.engine_pid(), signal.SIGKILL)
            self.pair.wait_event("node.reboot", t, 20, "blue")
            self.slow_dump_disk(0)
            self.pair.wait_event("node.reboot", t, 60, "red")
            self.bring_home()
            processes.wait_until(lambda: len([c for c in self.cores(self.red) if not c["collecting"]]) == 2, 30,
                                 "both cores are saved")

    def test_the_whole_node_ends_while_it_dumps(self):
        self.start()
        self.slow_dump_disk(200)
        t = self.panic()
        self.red.wait_status(lambda s: " MiB, " in s["next"] and ": 0 of" not in s["next"], 20, "has dumped something")
        self.red.kill()
        self.slow_dump_disk(0)
        core = self.saved(self.blue, t)
        self.assertFalse(core["details"]["complete"], core)
        self.bring_home()

    def test_given_back_uncoordinated_while_it_dumps(self):
        self.start()
        load = self.load([self.pair.create_lun("red")])
        self.slow_dump_disk(200)
        t = self.panic()
        self.pair.wait_event("node.dumping", t, 20, "red")
        self.pair.wait_event("takeover.serving", t, 20, "blue")
        code, out, error = self.blue.duet("giveback", "red", "--uncoordinated")
        self.assertEqual(code, 3, out + error)
        self.assertIn("coredump_in_progress", out + error)
        self.blue.must("giveback", "red", "--uncoordinated", "--force")
        self.pair.wait_event("node.reboot", t, 60, "red")
        self.slow_dump_disk(0)
        self.come_home(load)
        processes.wait_until(lambda: [c for c in self.cores(self.red) if not c["collecting"]], 30,
                             "the core is saved")

    def test_told_to_end_while_it_dumps(self):
        self.start()
        self.slow_dump_disk(200)
        t = self.panic()
        self.pair.wait_event("node.dumping", t, 20, "red")
        processes.send(self.red.process.pid, signal.SIGTERM)
        self.assertEqual(self.red.process.wait(60), 0)
        self.pair.events.stop("red")
        self.assertIn(self.dump()[0]["attribute"], ("completed", "inactive"))
        self.slow_dump_disk(0)
        self.assertTrue(self.saved(self.blue, t)["details"]["complete"])
        self.red.start()
        self.bring_home()


if __name__ == "__main__":
    unittest.main()
