#!/usr/bin/python3
"""Damaged mailboxes: one copy does not matter; without any the node does not serve, and says why."""

import time
import unittest

import pair as pair_module
import scenario

BLOCK = 4096
MAILBOX_BLOCKS = (8, 9)  # docs/formats/disk_label.md
MAILBOX_DISKS = 3


class Mailbox(scenario.Scenario):
    def damage(self, disks, blocks):
        """With nodes and the shelf down, as nobody writes a disk behind the shelf's back."""
        for node in self.pair.nodes.values():
            node.kill()
        shelf = self.pair.shelves["red"]
        shelf.kill()
        for index in disks:
            with open(shelf.disk_file(index), "r+b") as f:
                self.assertEqual(f.read(8), b"DUETDISK")
                for block in blocks:
                    f.seek(block * BLOCK)
                    self.assertNotEqual(f.read(BLOCK), bytes(BLOCK))
                    f.seek(block * BLOCK + 100)  # a torn write: the second part is another
                    f.write(b"\xa5" * (BLOCK - 100))
        shelf.start()

    def start_nodes(self):
        t = pair_module.boottime_ns()
        for node in self.pair.nodes.values():
            node.start()
        return t

    def written_luns(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            time.sleep(0.5)
            self.assert_nothing_lost(load)

    def test_one_torn_copy_on_every_disk(self):
        self.written_luns()
        for block in MAILBOX_BLOCKS:
            with self.subTest(block=block):
                self.damage(range(MAILBOX_DISKS), [block])
                t = self.start_nodes()
                self.pair.wait_healthy(30)
                self.assert_no_takeover(t)

    def test_both_copies_on_one_disk(self):
        # docs/formats/mailbox.md: every mailbox disk must have been read; what the others say is enough.
        self.written_luns()
        self.damage([0], MAILBOX_BLOCKS)
        t = self.start_nodes()
        self.pair.wait_healthy(30)
        self.assert_no_takeover(t)

    def test_both_copies_on_a_majority(self):
        self.written_luns()
        self.damage([0, 1], MAILBOX_BLOCKS)
        t = self.start_nodes()
        self.red.wait_status(lambda s: "mailbox" in s["why"], 20, "names the mailbox")
        self.assert_red_stays_unserved(3)
        self.assert_no_takeover(t)

    def assert_red_stays_unserved(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for node in self.pair.nodes.values():
                report = node.status()
                self.assertFalse(pair_module.identity(report, "red")["served_here"], report)
            time.sleep(0.2)

    def test_no_copy_left(self):
        self.written_luns()
        self.damage(range(MAILBOX_DISKS), MAILBOX_BLOCKS)
        t = self.start_nodes()
        self.blue.wait_status(lambda s: pair_module.state_of(s) == "up", 40, "serves its own")
        # Longer than the cold start wait, after which a partner that is not there is taken over.
        self.assert_red_stays_unserved(12)
        self.red.wait_status(lambda s: "mailbox" in s["why"], 5, "names the mailbox")
        self.assert_no_takeover(t)


if __name__ == "__main__":
    unittest.main()
