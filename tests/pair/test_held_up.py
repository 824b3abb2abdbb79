#!/usr/bin/python3
"""A departure that is held up by a disk that is too slow for a consistency point: cancelled, forced when the countdown
ends, left to itself by the operator who ordered it. One that a hung client does not hold up. And the giveback to a node
that has yet to boot."""

import signal
import unittest

import hung_client
import pair as pair_module
import scenario

DONE, FAILED, REFUSED, WAIT_OVER = 0, 1, 3, 4
COUNTDOWN = 2  # s
SLOW_MS = 1500  # twice that is what the partner needs to warm up


class HeldUp(scenario.Scenario):
    def held_load(self):
        """A LUN of one extent on each disk of red. Of these disks the last carries data only: while it is slow clients are
        served from memory, but a consistency point takes that long."""
        self.pair.start()
        disks = pair_module.Shelf.DISKS
        load = self.load([self.pair.create_lun("red", f"lun-{i}", "4MiB") for i in range(disks)])
        self.pair.shelves["red"].command(f"slow {disks - 1} {SLOW_MS}")
        return load

    def heal(self):
        self.pair.shelves["red"].command("heal all")

    def order(self, node, *arguments):
        """Gives an order and returns (the command, since when), once the node that goes hands over."""
        t = pair_module.boottime_ns()
        command = node.begin(*arguments)
        self.addCleanup(command.kill)
        self.pair.wait_event("takeover.counting_down", t, 20, "blue")
        self.pair.wait_event("departure.handing_over", t, 20, "red")
        return command, t

    def assert_ends(self, command, code, says):
        out, error = command.communicate(timeout=60 * self.pair.scale)
        self.assertEqual(command.returncode, code, out + error)
        self.assertIn(says, out + error)

    def test_cancelled_at_either_node(self):
        with self.held_load() as load:
            for ordered, what, cancels in ((self.blue, "red", self.blue), (self.red, "--self", self.red)):
                command, t = self.order(ordered, "takeover", what)
                load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
                code, out, error = cancels.duet("takeover", "--cancel")
                self.assertEqual(code, DONE, out + error)
                self.assert_ends(command, FAILED, "cancelled")
                self.pair.wait_event("departure.ended", t, 20, "red")
                self.pair.wait_event("takeover.given_up", t, 20, "blue")
                self.red.wait_status(lambda s: pair_module.state_of(s) == "up", 20, "serves as before")
                self.assert_no_takeover(t)
            self.heal()
            self.come_home(load)

    def test_forced_when_the_countdown_ends(self):
        with self.held_load() as load:
            command, t = self.order(self.blue, "takeover", "red", "--timeout", str(COUNTDOWN))
            counting = self.pair.wait_event("takeover.counting_down", t, 20, "blue")
            forced = self.pair.wait_event("takeover.forced_shutdown", t, 20, "blue")
            self.assertGreaterEqual(forced.t - counting.t, COUNTDOWN * 0.9e9)
            self.heal()
            self.assert_ends(command, DONE, "")
            self.assertEqual(self.pair.events.since(t, "departure.handed_over"), [])
            self.come_home(load)

    def test_ctrl_c_leaves_the_job_to_the_node(self):
        with self.held_load() as load:
            command, t = self.order(self.blue, "takeover", "red")
            command.send_signal(signal.SIGINT)
            self.assert_ends(command, WAIT_OVER, "the job goes on")
            for phase in ("takeover.given_up", "departure.ended", "handover.draining"):
                self.assertEqual(self.pair.events.since(t, phase), [])
            self.heal()
            self.pair.wait_event("takeover.serving", t, 30, "blue")
            self.assertEqual(self.pair.events.since(t, "takeover.forced_shutdown"), [])
            self.come_home(load)


class HungClient(scenario.Scenario):
    def test_holds_up_nobody(self):
        urls = self.start_with_luns()
        hung = hung_client.HungClient(self.pair.create_lun("red", "hung", "4MiB"), 10 * self.pair.scale)
        self.addCleanup(hung.close)
        with self.load(urls) as load:
            t = pair_module.boottime_ns()
            self.blue.must("takeover", "red")
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            self.assertEqual(self.pair.events.since(t, "takeover.forced_shutdown"), [])
            self.come_home(load)


class Uncoordinated(scenario.Scenario):
    def test_giveback_to_a_node_that_has_yet_to_boot(self):
        with self.load(self.start_with_luns()) as load:
            self.pair.wait_event("takeover.serving", self.red.kill(), 20, "blue")
            code, _, error = self.blue.duet("giveback", "red")
            self.assertEqual(code, REFUSED, error)
            t = pair_module.boottime_ns()
            command = self.blue.begin("giveback", "red", "--uncoordinated")
            self.addCleanup(command.kill)
            self.pair.wait_event("giveback.mailbox_written", t, 20, "blue")
            self.red.start()
            out, error = command.communicate(timeout=60 * self.pair.scale)
            self.assertEqual(command.returncode, DONE, out + error)
            self.pair.wait_event("node.up", t, 30, "red")
            self.assertEqual(self.pair.events.since(t, "takeover.serving"), [])
            self.come_home(load)


if __name__ == "__main__":
    unittest.main()
