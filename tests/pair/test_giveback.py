#!/usr/bin/python3
"""A giveback that is cut off: whoever dies at whatever step, the clients are served again, and nothing
is lost."""

import threading
import unittest

import pair as pair_module
import scenario


class CutOffGiveback(scenario.Scenario):
    def taken_over(self, load):
        t = self.red.crash_engine()
        self.pair.wait_event("takeover.serving", t, 20, "blue")
        self.pair.wait_event("boot.mbwait", t, 30, "red")
        self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
        load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)

    def give_back_until(self, phase, node):
        """Orders the giveback and returns when that event has come; disks are slow meanwhile."""
        t = pair_module.boottime_ns()
        self.pair.shelves["red"].command("slow all 15")
        order = threading.Thread(target=self.blue.duet, args=("giveback", "red", "--wait", "20"))
        order.start()
        self.addCleanup(order.join)
        self.pair.wait_event(phase, t, 20, node)
        return t

    def served_and_home(self, load):
        self.pair.shelves["red"].command("heal all")
        load.wait_flowing(pair_module.boottime_ns(), 30 * self.pair.scale)
        self.come_home(load)

    def test_repaired_node_dies_in_mbwait(self):
        with self.load(self.start_with_luns()) as load:
            self.taken_over(load)
            t = self.red.kill()
            self.pair.wait_event("giveback.re_reserving", t, 20, "blue")
            code, _, error = self.blue.duet("giveback", "red")
            self.assertEqual(code, 3, error)
            self.served_and_home(load)

    def test_repaired_node_dies_after_the_mailbox_was_written(self):
        with self.load(self.start_with_luns()) as load:
            self.taken_over(load)
            self.give_back_until("giveback.mailbox_written", "blue")
            t = self.red.kill()
            self.pair.wait_event("takeover.serving", t, 30, "blue")
            self.served_and_home(load)

    def test_survivor_dies_after_the_mailbox_was_written(self):
        with self.load(self.start_with_luns()) as load:
            self.taken_over(load)
            t = self.give_back_until("giveback.mailbox_written", "blue")
            self.blue.kill()
            self.pair.wait_event("node.up", t, 30, "red")
            self.pair.wait_event("takeover.serving", t, 30, "red")
            self.served_and_home(load)

    def test_survivor_dies_while_it_releases(self):
        with self.load(self.start_with_luns()) as load:
            self.taken_over(load)
            self.give_back_until("giveback.stopping", "blue")
            self.blue.kill()
            self.blue.start()  # the mailbox says that blue serves red's identity: red waits for it
            self.served_and_home(load)


if __name__ == "__main__":
    unittest.main()
