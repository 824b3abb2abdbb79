#!/usr/bin/python3
"""An engine that panics is dumped to a disk for that, and a debugger finds in the core where it crashed."""

import signal
import unittest

import pair as pair_module
import panics
import processes


class Panic(panics.PanicScenario):
    # The partner counts as alive for so long after it was stopped: see panic().
    overrides = {**panics.PanicScenario.overrides,
                 "takeover.interconnect_silence_ms": 8000, "takeover.mailbox_silence_ms": 8000}

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
                self.assertGreaterEqual(int(found["dump"]["log_written"]), int(found["dump"]["log_freed"]))
                self.assertGreater(int(found["dump"]["log_written"]), 0)
                self.assertTrue(any("duet-engine+" in frame for frame in found["dump"]["stack"]), found)
                text = self.backtrace(core)
                self.assertIn(function, text)
            self.bring_home()

    def test_the_partner_serves_meanwhile(self):
        self.start()
        self.slow_dump_disk(300)
        t = processes.boottime_ns()
        self.red.must("node", "panic")
        serving = self.pair.wait_event("takeover.serving", t, 20, "blue")
        self.red.wait_status(lambda s: s["state"] == "dumping" and " MiB, " in s["next"], 20, "shows progress")
        dumped = self.pair.wait_event("node.dumped", t, 20, "red")
        self.assertLess(serving.t, dumped.t)
        self.bring_home()

    def test_the_supervisor_dies_while_it_dumps(self):
        self.start()
        self.slow_dump_disk(300)
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
        self.slow_dump_disk(0)
        self.red.process.end()
        self.red.start()
        self.bring_home()

    def test_refused_without_permission(self):
        self.pair.overrides = {"coredump.test_panics": "false"}
        self.pair.start()
        code, out, error = self.red.duet("node", "panic")
        self.assertEqual(code, 3)
        self.assertIn("coredump.test_panics", out + error)
        self.assertTrue(self.red.engine_pid())


if __name__ == "__main__":
    unittest.main()
