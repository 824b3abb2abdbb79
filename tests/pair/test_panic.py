#!/usr/bin/python3
"""An engine that panics is dumped to a disk for that, and a debugger finds in the core where it crashed."""

import json
import signal
import subprocess
import unittest

import pair as pair_module
import processes
import scenario

DUMP_DISK = 4


@unittest.skipIf(pair_module.time_scale() > 1, "a sanitizer reports crashes itself: there is no dump")
class Panic(scenario.Scenario):
    # The partner counts as alive for so long after it was stopped: see panic().
    overrides = {"coredump.test_panics": "true", "engine.progress_limit_ms": 3000,
                 "takeover.interconnect_silence_ms": 8000, "takeover.mailbox_silence_ms": 8000}

    def _no_program_broke(self):
        for path in self.pair.directory.glob("*.log"):  # but on purpose
            lines = path.read_text(errors="replace").splitlines()
            path.write_text("\n".join(line for line in lines if "test_panic.cc" not in line))
        super()._no_program_broke()

    def start(self):
        self.pair.disk_size = "256M"
        self.pair.shelves["red"].DISKS = DUMP_DISK + 1
        for shelf in self.pair.shelves.values():
            shelf.start()
        self.pair.shelves["red"].DISKS = DUMP_DISK  # the last one is no part of the pool
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.init()
        self.pair.shelves["red"].DISKS = DUMP_DISK + 1
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.start()
        self.pair.wait_healthy()
        self.red.must("disk", "coredump", DUMP_DISK)
        self.reboot(self.red)  # labels are read every 10 s, and when a node boots

    def reboot(self, node):
        t = processes.boottime_ns()
        processes.send(node.engine_pid(), signal.SIGKILL)
        partner = self.pair.partner_of(node)
        self.pair.wait_event("takeover.serving", t, 20, partner.name)
        partner.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
        partner.must("giveback", node.name)
        self.pair.wait_healthy()

    def panic(self, kind):
        """The dump, read while the partner stands still: whoever serves next makes a core file of it."""
        self.blue.stop()
        t = processes.boottime_ns()
        self.red.must("node", "panic", "--kind", kind)
        self.pair.wait_event("node.reboot", t, 20, "red")
        try:
            return self.dump()
        finally:
            self.blue.resume()

    def dump(self):
        core = self.pair.directory / "core"
        done = subprocess.run([self.pair.program("dump_reader"), self.pair.shelves["red"].disk_file(DUMP_DISK), core],
                              capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout), core

    def backtrace(self, core):
        done = subprocess.run(["gdb", "-batch", "-nx", "-ex", "bt 12", self.pair.program("duet-engine"), core],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    def home(self):
        """Whoever serves red: both nodes serve their own again."""
        for node in self.pair.nodes.values():
            node.wait_status(lambda s: s["state"] in ("up", "mbwait", pair_module.SERVING_ALONE), 30, "settled")
        if self.blue.status()["state"] == pair_module.SERVING_ALONE:
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            self.blue.must("giveback", "red")
        self.pair.wait_healthy()

    def test_every_kind_of_panic(self):
        self.start()
        for kind, function, reason in (
                ("null", "BlockCache::find", "signal 11"),
                ("assert", "fail_assertion_on_purpose", "ASSERT failed: seen =="),
                ("stack", "recurse_without_end", "signal 11"),
                ("abort", "abort_in_a_thread", "signal 6"),
                ("hang", "hang_on_purpose", "no progress for 3000 ms")):
            with self.subTest(kind):
                found, core = self.panic(kind)
                self.assertEqual(found["attribute"], "completed", found)
                self.assertTrue(found["dump"]["complete"], found)
                self.assertIn(reason, found["dump"]["reason"])
                self.assertTrue(found["dump"]["build_id"])
                self.assertTrue(any("duet-engine+" in frame for frame in found["dump"]["stack"]), found)
                text = self.backtrace(core)
                self.assertIn(function, text)
            self.home()

    def slow_dump(self):
        answer = self.pair.shelves["red"].command(f"slow {DUMP_DISK} 300")
        self.assertTrue(answer.startswith("ok"), answer)

    def test_the_partner_serves_meanwhile(self):
        self.start()
        self.reboot(self.blue)  # it knows the label, too
        self.slow_dump()
        t = processes.boottime_ns()
        self.red.must("node", "panic")
        serving = self.pair.wait_event("takeover.serving", t, 20, "blue")
        self.red.wait_status(lambda s: s["state"] == "dumping" and " MiB, " in s["next"], 20, "shows progress")
        dumped = self.pair.wait_event("node.dumped", t, 20, "red")
        self.assertLess(serving.t, dumped.t)
        self.home()

    def test_the_supervisor_dies_while_it_dumps(self):
        self.start()
        self.slow_dump()
        self.blue.stop()
        t = processes.boottime_ns()
        self.red.must("node", "panic")
        self.pair.wait_event("node.dumping", t, 20, "red")
        engine = self.red.engine_pid()
        self.assertTrue(engine)
        processes.send(self.red.process.pid, signal.SIGKILL)
        processes.wait_until(lambda: not processes.alive(engine), 5, "the engine ends with its supervisor")
        self.pair.events.stop("red")
        self.assertEqual(self.dump()[0]["attribute"], "active")
        self.blue.resume()
        self.blue.wait_status(lambda s: s["state"] == pair_module.SERVING_ALONE, 30, "serves both")
        self.pair.shelves["red"].command(f"slow {DUMP_DISK} 0")
        self.red.process.end()
        self.red.start()
        self.home()

    def test_refused_without_permission(self):
        self.pair.overrides = {"coredump.test_panics": "false"}
        self.pair.start()
        code, out, error = self.red.duet("node", "panic")
        self.assertEqual(code, 3)
        self.assertIn("coredump.test_panics", out + error)
        self.assertTrue(self.red.engine_pid())


if __name__ == "__main__":
    unittest.main()
