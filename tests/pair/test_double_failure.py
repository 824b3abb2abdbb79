#!/usr/bin/python3
"""The survivor fails too, in the middle of its takeover, and comes back: the replay starts over."""

import signal
import unittest

import pair as pair_module
import processes
import scenario


class DoubleFailure(scenario.Scenario):
    def run_with(self, phase, fail_survivor):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            engine = self.blue.engine_pid()
            shelf = self.pair.shelves["red"]
            shelf.command("slow all 50")  # so that the second failure hits the takeover, not its end
            t = self.red.crash_engine()
            self.pair.wait_event(phase, t, 20, "blue")
            failed = pair_module.boottime_ns()
            fail_survivor(engine)
            shelf.command("heal all")
            served = self.pair.events.since(t, "takeover.serving")
            self.assertFalse([e for e in served if e.t < failed], "the takeover was too fast")
            # Before the mailbox was marked red may come back by itself, afterwards only blue serves.
            load.wait_flowing(pair_module.boottime_ns(), 30 * self.pair.scale)
            self.come_home(load)

    def kill_and_start_blue(self, _engine):
        self.blue.kill()
        self.blue.start()

    def test_survivor_killed_once_the_disks_are_fenced(self):
        self.run_with("takeover.fenced", self.kill_and_start_blue)

    def test_survivor_killed_once_the_mailbox_is_marked(self):
        self.run_with("takeover.marked", self.kill_and_start_blue)

    def test_engine_of_the_survivor_panics_during_replay(self):
        self.run_with("takeover.marked", lambda engine: processes.send(engine, signal.SIGABRT))


if __name__ == "__main__":
    unittest.main()
