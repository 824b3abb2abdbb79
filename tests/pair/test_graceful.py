#!/usr/bin/python3
"""Planned moves: the node that goes hands over in order. Nothing is lost, nothing is executed twice, and
other people's initiators come along."""

import subprocess
import unittest

import counter as counter_module
import moves
import pair as pair_module
import scenario

COUNTERS = 3


class Graceful(scenario.Scenario):
    def counters(self, url):
        made = [counter_module.Counter(url, 8 * i) for i in range(COUNTERS)]
        for each in made:
            self.addCleanup(each.stop)
        return made

    def assert_counted(self, counters):
        for each in counters:
            total = each.stop()
            self.assertEqual(each.wrong, [])
            self.assertGreater(total, 0)

    def test_there_and_back_again_and_again(self):
        urls = self.start_with_luns()
        counted = self.pair.create_lun("red", "counted", "1MiB")
        with self.load(urls) as load:
            counters = self.counters(counted)
            for _ in range(3):
                before = [each.value for each in counters]
                move = moves.planned(self.pair, load, self.red)
                phases = [e.phase for e in self.pair.events.since(move.t0)]
                self.assertIn("handover.draining", phases)
                self.assertIn("takeover.counting_down", phases)
                self.assertNotIn("takeover.forced", phases)
                self.assertTrue(all(each.value > b for each, b in zip(counters, before)))
            self.assert_counted(counters)
            self.assert_nothing_lost(load)

    def test_please_takeover(self):
        with self.load(self.start_with_luns()) as load:
            t = pair_module.boottime_ns()
            self.red.must("takeover", "red")
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
            self.come_home(load)

    def test_initiators_of_others_come_along(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            url = self.pair.create_lun("red", "others", "64MiB")
            writes = [a for i in range(48) for a in ("-c", f"write -P {i + 1} {i}M 1M")]
            sessions = pair_module.identity(self.red.status(), "red")["sessions"]
            client = subprocess.Popen(["qemu-io", "-f", "raw", "-t", "none", *writes, url],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
            self.addCleanup(client.kill)
            # libiscsi gives up when its very first session is lost.
            self.red.wait_status(lambda s: pair_module.identity(s, "red")["sessions"] > sessions, 20,
                                 "qemu-io has a session")
            moves.planned(self.pair, load, self.red)
            out, _ = client.communicate(timeout=60 * self.pair.scale)
            self.assertEqual(client.returncode, 0, out)
            reads = [a for i in range(48) for a in ("-c", f"read -P {i + 1} {i}M 1M")]
            check = subprocess.run(["qemu-io", "-f", "raw", "-t", "none", *reads, url], check=False,
                                   stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            self.assertEqual(check.returncode, 0, check.stderr)
            self.assertNotIn("verification failed", check.stdout)
            inquiry = subprocess.run(["iscsi-inq", url], check=False, stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, timeout=30)
            self.assertEqual(inquiry.returncode, 0, inquiry.stderr)
            self.assert_nothing_lost(load)


if __name__ == "__main__":
    unittest.main()
