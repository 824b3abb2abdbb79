#!/usr/bin/python3
"""duet-fsck on the disks of real pairs: after a crash, with disks and superblocks missing, and with
damage that was planted (docs/cli.md)."""

import itertools
import subprocess
import unittest

import scenario
from test_storage import qemu_io

BLOCK = 4096
DATA = 1 << 20  # the data area of a disk (docs/formats/disk_label.md)
SUPERBLOCKS = 64 << 10  # both slots, from there on (docs/formats/pool.md)
PATTERN = 0x5A


class Fsck(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.pair.disk_size = "64M"

    def fill(self):
        """A LUN, a volume, snapshots, a clone; the last writes are not in a consistency point."""
        self.pair.start()
        url = self.pair.create_lun("red", "data", "32MiB")
        self.assertTrue(qemu_io(url, f"write -P {PATTERN} 0 4M", "flush"))
        self.red.must("volume", "create", "work")
        self.red.must("snapshot", "create", "one")
        self.assertTrue(qemu_io(url, "write -P 2 1M 1M", "write -P 3 8M 256k", "flush"))
        self.red.must("lun", "clone", "data", "one", "old")
        self.red.must("snapshot", "create", "two")
        self.red.must("snapshot", "delete", "two")
        self.assertTrue(qemu_io(url, "write -P 4 512k 1M", "write -P 5 16M 64k", "flush"))

    def crash(self):
        """Everything at once; the disks are files afterwards."""
        for node in self.pair.nodes.values():
            node.kill()
        for shelf in self.pair.shelves.values():
            shelf.kill()
        shelf = self.pair.shelves["red"]
        return [shelf.disk_file(i) for i in range(shelf.DISKS)]

    def fsck(self, *arguments):
        done = subprocess.run([self.pair.program("duet-fsck"), *map(str, arguments)], capture_output=True,
                              text=True, timeout=60 * self.pair.scale, check=False)
        return done.returncode, done.stdout + done.stderr

    def expect(self, code, *arguments, says=""):
        got, text = self.fsck(*arguments)
        self.assertEqual(got, code, f"{arguments}: {text}")
        self.assertIn(says, text)
        return text

    def test_a_crash_is_no_damage(self):
        self.fill()
        disks = self.crash()
        before = [disk.read_bytes()[: 4 << 20] for disk in disks]
        self.expect(0, "--data", *disks)
        self.expect(0, "--data", "--parity", "--log", self.red.nvram, *disks)
        with self.subTest("in any order, with one disk less"):
            for missing in range(4):
                rest = [d for i, d in enumerate(disks) if i != missing]
                self.expect(0, "--data", *reversed(rest))
        with self.subTest("with two disks less it says what is missing"):
            self.expect(2, *disks[:2])
        with self.subTest("from the superblocks of any two disks"):
            for pair in itertools.combinations(disks, 2):
                kept = {disk: self.overwrite(disk, DATA, bytes(SUPERBLOCKS)) for disk in pair}
                self.expect(0, *disks)
                for disk, old in kept.items():
                    self.overwrite(disk, DATA, old)
        self.assertEqual(before, [disk.read_bytes()[: 4 << 20] for disk in disks], "it writes nothing")
        with self.subTest("without any superblock"):
            for disk in disks:
                self.overwrite(disk, DATA, bytes(SUPERBLOCKS))
            self.expect(2, *disks, says="superblock")

    def test_planted_damage_is_named(self):
        self.fill()
        disks = self.crash()
        with self.subTest("a block of data"):
            disk, at = self.find(disks, bytes([PATTERN]) * BLOCK)
            old = self.overwrite(disk, at + 100, b"damage")
            text = self.expect(1, "--data", *disks, says="Nothing was written")
            self.assertRegex(text, r"block \d+ of member \d \(.*disk-00\d.img\) was wrong")
            self.overwrite(disk, at + 100, old)
            self.expect(0, "--data", *disks)
        with self.subTest("parity"):
            old = self.overwrite(disks[3], DATA + (2 << 20), b"parity")
            self.expect(1, "--parity", *disks, says="parity of 1 stripes was wrong")
            self.overwrite(disks[3], DATA + (2 << 20), old)
        with self.subTest("a label"):
            old = self.overwrite(disks[0], 0, bytes(2 * BLOCK))
            self.expect(2, *disks, says=str(disks[0]))
            self.overwrite(disks[0], 0, old)
        with self.subTest("anything, anywhere: no crash, and nothing but a verdict"):
            for step in range(40):
                disk = disks[step % 4]
                at = DATA + SUPERBLOCKS + step * 37 * BLOCK
                old = self.overwrite(disk, at, bytes([step + 1]) * BLOCK)
                code, text = self.fsck("--data", *disks)
                self.assertIn(code, (0, 1, 2), text)
                self.overwrite(disk, at, old)

    @staticmethod
    def overwrite(disk, at, data):
        """Returns what was there."""
        with disk.open("r+b") as file:
            file.seek(at)
            old = file.read(len(data))
            file.seek(at)
            file.write(data)
        return old

    def find(self, disks, block):
        for disk in disks:
            content = disk.read_bytes()
            for at in range(DATA, len(content), BLOCK):
                if content[at : at + BLOCK] == block:
                    return disk, at
        self.fail("no block of the pattern is on the disks")


if __name__ == "__main__":
    unittest.main()
