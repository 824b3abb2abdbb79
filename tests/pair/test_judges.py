#!/usr/bin/python3
"""Outside judges: file systems of others on a LUN, and fio, which reads back what it wrote, while the
LUN moves from node to node. The LUN is a file for them (qemu-storage-daemon: iSCSI in, FUSE out)."""

import os
import re
import shutil
import subprocess
import unittest

import moves
import processes
import scenario

NEEDED = ("qemu-storage-daemon", "fio", "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair")
MOVES = 5  # takeover and giveback each


class Judges(scenario.Scenario):
    def setUp(self):
        missing = [p for p in NEEDED if shutil.which(p) is None]
        if missing or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            self.skipTest(f"needs {', '.join(missing) or '/dev/fuse'}")
        super().setUp()

    def export(self, url, name):
        """The LUN as a file."""
        portal, target, lun = re.fullmatch(r"iscsi://([^/]+)/([^/]+)/(\d+)", url).groups()
        path = self.pair.directory / name
        path.touch()
        self.pair.spawn(
            ["qemu-storage-daemon", "--blockdev",
             f"driver=iscsi,node-name=lun,transport=tcp,portal={portal},target={target},lun={lun},"
             f"initiator-name=iqn.2026-11.org.duet:judge.{name},cache.direct=on",
             "--export", f"type=fuse,id=lun,node-name=lun,mountpoint={path},writable=on"], f"{name}.log")
        processes.wait_until(lambda: path.stat().st_size > 0, 20 * self.pair.scale, "the LUN is a file")
        return path

    def must(self, *argv, timeout=120):
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False,
                              timeout=timeout * self.pair.scale, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def tree(self):
        """Files whose contents the checkers of the file systems read back."""
        root = self.pair.directory / "tree"
        for i in range(40):
            path = root / f"d{i % 5}" / f"file{i}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000 + 40_000 * (i % 7)))
        return root

    def test_file_systems_of_others(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            url = self.pair.create_lun("red", "judged", "320MiB")
            lun = self.export(url, "judged")
            root = self.tree()
            self.must("mkfs.ext4", "-q", "-F", "-d", root, lun)
            moves.planned(self.pair, load, self.red)
            self.must("e2fsck", "-f", "-n", lun)
            out = self.pair.directory / "out"
            self.must("debugfs", "-R", f"rdump / {self._made(out)}", lun)
            self.must("diff", "-r", "--exclude=lost+found", root, out)

            proto = self.pair.directory / "proto"
            files = "".join(f"file{i} ---644 0 0 {root}/d{i % 5}/file{i}\n" for i in range(40))
            proto.write_text(f"/\n0 0\nd--755 0 0\n{files}$\n")
            self.must("mkfs.xfs", "-q", "-f", "-p", proto, lun)
            moves.node_killed(self.pair, load, self.red)
            self.must("xfs_repair", "-n", lun)
            self.assert_nothing_lost(load)

    def _made(self, path):
        path.mkdir()
        return path

    def test_fio_verifies_across_ten_moves(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            url = self.pair.create_lun("red", "fio", "128MiB")
            lun = self.export(url, "fio")
            for number in range(MOVES):
                fio = self.pair.spawn(
                    ["fio", "--name=judge", f"--filename={lun}", "--size=16M", "--rw=randwrite",
                     "--bs=4k", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
                     "--ioengine=psync", "--allow_file_create=0", "--eta=never", f"--randseed={number}"],
                    f"fio{number}.log")
                moves.planned(self.pair, load, self.red)
                code = fio.wait(60 * self.pair.scale)  # libiscsi comes back 5 s after a second loss
                self.assertEqual(code, 0, self.pair.tail(f"fio{number}.log", 90))
            self.assert_nothing_lost(load)


if __name__ == "__main__":
    unittest.main()
