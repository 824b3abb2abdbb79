#!/usr/bin/python3
"""The operator and the pool: snapshots, clones of LUNs, disks that fail and come back (docs/cli.md)."""

import subprocess
import unittest

import processes
import scenario


def qemu_io(url, *commands):
    """Runs qemu-io on a LUN; False: a command failed, or what was read is something else."""
    argv = ["qemu-io", "-f", "raw"]
    for command in commands:
        argv += ["-c", command]
    done = subprocess.run([*argv, url], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                          check=False)
    text = done.stdout + done.stderr
    return done.returncode == 0 and "failed" not in text and "rror" not in text


class Storage(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.pair.disk_size = "256M"

    def refused(self, node, *arguments, says):
        code, out, error = node.duet(*arguments)
        self.assertEqual(code, 1, f"duet {' '.join(arguments)}: {out}{error}")
        self.assertIn(says, out + error)

    def pool(self):
        code, report = self.red.json("pool", "status")
        self.assertEqual(code, 0)
        return report

    def wait_pool(self, condition, what):
        return processes.wait_until(lambda: (lambda r: r if condition(r) else None)(self.pool()),
                                    20 * self.pair.scale, what)

    def url_of(self, name):
        _, report = self.red.json("lun", "list")
        return self.pair.url("red", next(l["lun"] for l in report["luns"]
                                         if l["name"] == name and l["identity"] == 1))

    def test_snapshots_and_clones(self):
        self.pair.start()
        url = self.pair.create_lun("red", "data", "32MiB")
        self.assertTrue(qemu_io(url, "write -P 1 0 1M", "flush"))
        self.red.must("snapshot", "create", "monday")
        self.refused(self.red, "snapshot", "create", "monday", says="monday")
        self.assertTrue(qemu_io(url, "write -P 2 0 512k", "flush"))
        self.red.must("lun", "clone", "data", "monday", "old")
        with self.subTest("the clone shows what was, and goes its own way"):
            old = self.url_of("old")
            self.assertTrue(qemu_io(old, "read -P 1 0 1M"))
            self.assertTrue(qemu_io(url, "read -P 2 0 512k", "read -P 1 512k 512k"))
            self.assertTrue(qemu_io(old, "write -P 3 512k 512k", "flush"))
            self.assertTrue(qemu_io(url, "read -P 1 512k 512k"))
            _, luns = self.red.json("lun", "list")
            self.assertEqual(len({l["serial"] for l in luns["luns"]}), len(luns["luns"]))
        with self.subTest("lists"):
            _, report = self.red.json("snapshot", "list")
            self.assertEqual([(s["volume"], s["name"], s["clones"]) for s in report["volumes"]],
                             [("vol0", "monday", 1)])
            self.assertGreater(report["volumes"][0]["created"], 0)
            _, report = self.red.json("volume", "list")
            self.assertEqual({v["name"]: v["origin"] for v in report["volumes"]},
                             {"vol0": "", "old": "vol0/monday"})
        with self.subTest("refused, with the cure"):
            self.refused(self.red, "snapshot", "delete", "monday", says="clones")
            self.refused(self.red, "volume", "delete", "old", says="old")
            self.refused(self.blue, "pool", "status", "--identity", "red", says="served by red")
            self.refused(self.red, "snapshot", "delete", "tuesday", says="snapshot list")
            self.refused(self.red, "lun", "create", "huge", "2GiB", "--reserve", says="thin")
        with self.subTest("a volume of its own goes back to its snapshot"):
            self.red.must("volume", "create", "work")
            self.red.must("snapshot", "create", "work", "begin")
            self.red.must("snapshot", "restore", "work", "begin")
            self.red.must("snapshot", "clone", "work", "begin", "copy")
            self.red.must("volume", "delete", "copy")
            self.red.must("snapshot", "delete", "work", "begin")
        with self.subTest("the clone survives a takeover"):
            self.blue.must("takeover", "red")
            self.assertTrue(qemu_io(old, "read -P 1 0 512k", "read -P 3 512k 512k"))
            self.refused(self.red, "pool", "status", says="red")
            self.blue.must("snapshot", "create", "while-away", "--identity", "red")
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            self.blue.must("giveback", "red")
            self.pair.wait_healthy()
            self.assertTrue(qemu_io(old, "read -P 1 0 512k", "read -P 3 512k 512k"))
        with self.subTest("the clone goes, its volume with it, then the snapshot"):
            self.red.must("lun", "delete", "old")
            processes.wait_until(lambda: "old" not in self.red.must("volume", "list"), 10 * self.pair.scale,
                                 "the volume of the clone is gone")
            self.red.must("snapshot", "delete", "monday")
            self.assertTrue(qemu_io(url, "read -P 2 0 512k", "read -P 1 512k 512k"))
        with self.subTest("check"):
            self.assertIn("0 problems", self.red.must("pool", "check", "--data"))

    def test_a_disk_fails_and_comes_back(self):
        self.pair.start()
        shelf = self.pair.shelves["red"]
        url = self.pair.create_lun("red", "data", "32MiB")
        self.assertTrue(qemu_io(url, "write -P 1 0 4M", "flush"))
        report = self.pool()
        self.assertEqual([d["state"] for d in report["disks"]], ["in_sync"] * shelf.DISKS)
        self.assertEqual(report["health"], "")
        self.refused(self.red, "disk", "replace", "m3", says="fail")
        self.assertEqual(shelf.command("power-off 3"), "ok")
        self.assertTrue(qemu_io(url, "write -P 2 0 2M", "flush"), "service goes on")
        member = lambda r: next(d for d in r["disks"] if d["lun"] == "3")
        self.red.must("snapshot", "create", "without-it")  # a consistency point
        self.wait_pool(lambda r: member(r)["state"] == "failed", "the disk counts as failed")
        self.assertIn("failed", self.red.must("pool", "status"))
        self.refused(self.red, "disk", "fail", "2", says="lost")
        self.assertTrue(qemu_io(url, "read -P 2 0 2M", "read -P 1 2M 2M"))
        self.assertEqual(shelf.command("power-on 3"), "ok")
        self.wait_pool(lambda r: member(r)["state"] == "in_sync", "it is taken in again and rebuilt")
        self.red.must("disk", "fail", "m0")  # so everything comes from the others
        self.assertTrue(qemu_io(url, "read -P 2 0 2M", "read -P 1 2M 2M"))
        self.red.must("disk", "replace", "m0")
        self.wait_pool(lambda r: all(d["state"] == "in_sync" for d in r["disks"]), "whole again")
        self.red.must("pool", "scrub")
        self.wait_pool(lambda r: r["scrub"]["last"], "the scrub has ended")

    def test_a_spare_takes_over_and_the_old_disk_stands_by(self):
        self.pair.prepare()
        self.red.must("init", "--force", "--spares", "1")
        for node in self.pair.nodes.values():
            node.start()
        self.pair.wait_healthy()
        disk = lambda r, lun: next(d for d in r["disks"] if d["lun"] == lun)
        self.assertEqual(disk(self.pool(), "3")["member"], "spare")
        self.red.must("disk", "fail", "1")
        self.wait_pool(lambda r: disk(r, "3")["member"] == "m1" and disk(r, "3")["state"] == "in_sync",
                       "the spare is rebuilt")
        self.assertEqual(disk(self.pool(), "1")["member"], "unused")
        self.refused(self.red, "disk", "spare", "3", says="member")
        self.red.must("disk", "spare", "1")
        self.assertEqual(disk(self.pool(), "1")["member"], "spare")

    def test_a_volume_goes_back_with_its_luns(self):
        self.pair.start()
        url = self.pair.create_lun("red", "data", "32MiB")
        self.pair.create_lun("red", "gone", "16MiB")
        self.assertTrue(qemu_io(url, "write -P 1 0 4M", "flush"))
        self.assertTrue(qemu_io(self.url_of("gone"), "write -P 4 0 1M", "flush"))
        self.red.must("snapshot", "create", "then")
        self.red.must("lun", "delete", "gone")
        self.red.must("lun", "create", "since", "8MiB")
        with subprocess.Popen(["qemu-io", "-f", "raw", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as client:
            client.stdin.write("write -P 2 0 1M\nflush\n")
            client.stdin.flush()
            while "1 MiB" not in client.stdout.readline():
                self.assertIsNone(client.poll())
            self.refused(self.red, "snapshot", "restore", "then", says="--force")
            client.communicate("quit\n", timeout=20)
        self.red.must("snapshot", "restore", "then", "--force")
        self.assertTrue(qemu_io(url, "read -P 1 0 4M"))
        _, report = self.red.json("lun", "list")
        self.assertEqual({l["name"] for l in report["luns"] if l["identity"] == 1}, {"data", "gone"})
        self.red.must("snapshot", "create", "newer")
        self.assertTrue(qemu_io(url, "write -P 7 0 2M", "flush"))
        self.red.must("snapshot", "restore", "then", "--lun", "data", "--force")
        self.assertTrue(qemu_io(self.url_of("gone"), "read -P 4 0 1M"))
        self.blue.must("takeover", "red")
        self.assertTrue(qemu_io(url, "read -P 1 0 4M", "write -P 3 0 4k", "flush"))
        self.assertIn("0 problems", self.blue.must("pool", "check", "--data", "--identity", "red"))

    def test_a_pool_grows(self):
        shelf = self.pair.shelves["red"]
        shelf.DISKS = 5
        for each in self.pair.shelves.values():
            each.start()
        shelf.DISKS = 4  # the last one is put in later
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.init()
        shelf.DISKS = 5
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret)
            node.start()
        self.pair.wait_healthy()
        url = self.pair.create_lun("red", "data", "32MiB")
        self.assertTrue(qemu_io(url, "write -P 1 0 8M", "flush"))
        disk = lambda r, lun: next(d for d in r["disks"] if d["lun"] == lun)
        self.refused(self.red, "pool", "grow", "4", says="--label")
        self.refused(self.red, "disk", "spare", "4", says="--label")
        self.red.must("disk", "spare", "4", "--label")
        before = self.pool()
        self.assertEqual(disk(before, "4")["member"], "spare")
        self.red.must("disk", "fail", "1")  # the spare takes its place; it stays out by order
        self.wait_pool(lambda r: disk(r, "4")["member"] == "m1" and disk(r, "4")["state"] == "in_sync", "rebuilt")
        self.red.must("pool", "grow", "1")
        self.blue.must("takeover", "red")  # in the middle
        size = lambda: self.blue.json("pool", "status", "--identity", "red")[1]
        grown = processes.wait_until(lambda: (lambda r: r if disk(r, "1")["member"] == "m4" else None)(size()),
                                     40 * self.pair.scale, "the disk has joined where the pool is served")
        self.assertGreater(grown["size"], before["size"] * 1.2)
        self.assertTrue(qemu_io(url, "read -P 1 0 8M", "write -P 2 8M 16M", "flush"))
        self.blue.must("disk", "fail", "m2", "--identity", "red")
        self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
        self.blue.must("giveback", "red")
        self.pair.wait_healthy()
        self.assertEqual(next(d for d in self.pool()["disks"] if d["member"] == "m2")["state"], "failed")
        self.assertTrue(qemu_io(url, "read -P 1 0 8M", "read -P 2 8M 16M"))
        self.red.must("disk", "replace", "m2")
        self.wait_pool(lambda r: all(d["state"] == "in_sync" for d in r["disks"]), "whole again")
        self.assertIn("0 problems", self.red.must("pool", "check", "--data"))


if __name__ == "__main__":
    unittest.main()
