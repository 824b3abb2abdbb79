#!/usr/bin/python3
"""An engine that panics is dumped to a disk for that, and a debugger finds in the core where it crashed."""

import secrets
import signal
import subprocess
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
        panics.wait_dump_disk_known(self.pair)
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

    def restart(self, node, **overrides):
        """As a node that was switched off, with more in its configuration."""
        node.kill()
        node.write_config(self.pair.secret, overrides)
        node.start()
        self.bring_home()

    def write_secret(self, url):
        """What a client stores, in requests of several sizes, read again, and in a consistency point."""
        secret = secrets.token_bytes(512)
        pattern = self.pair.directory / "pattern"
        pattern.write_bytes(secret)
        sizes = (512, 4096, 20480, 262144, 1 << 20)
        places = [(size << 4, size) for size in sizes]
        for verb in (f"write -s {pattern}", "read"):
            commands = [option for at, size in places for option in ("-c", f"{verb} {at} {size}")]
            subprocess.run(["qemu-io", "-f", "raw", *commands, "-c", "flush", url], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=True)
        self.red.must("snapshot", "create", f"after.{secret[:4].hex()}")
        # On its way out: in the log and in the cache, in no consistency point.
        subprocess.run(["qemu-io", "-f", "raw", "-c", f"write -s {pattern} 0 8192", url], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=60, check=True)
        return secret[64:448]  # more than the registers of a thread that was copying just then hold

    def test_what_clients_store_is_in_a_core_only_if_it_is_asked_for(self):
        self.start()
        url = self.pair.create_lun("red", "private", "32MiB")
        sizes = {}
        for include in (False, True):
            with self.subTest(include_cache=include):
                self.restart(self.red, **{"coredump.include_cache": str(include).lower()})
                secret = self.write_secret(url)
                found, core = self.panic("null")
                self.assertTrue(found["dump"]["complete"], found)
                self.assertEqual(core.read_bytes().count(secret) > 0, include)
                self.assertIn("BlockCache::find", self.backtrace(core))
                sizes[include] = core.stat().st_size
            self.bring_home()
        self.assertGreater(sizes[True], sizes[False])

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
        self.red.must("core", "trigger", "red")
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
        for node, expected in (("red", 3), ("1", 3), ("blue", 3), ("green", 2)):
            code, out, error = self.red.duet("core", "trigger", node)
            self.assertEqual(code, expected, out + error)
            self.assertIn("ask blue itself" if node == "blue" else "", out + error)
        self.assertTrue(self.red.engine_pid())


if __name__ == "__main__":
    unittest.main()
