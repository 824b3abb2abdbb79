#!/usr/bin/python3
"""The operator's orders and the exit codes of `duet` (docs/cli.md)."""

import json
import time
import unittest

import pair as pair_module
import scenario

DONE, FAILED, USAGE, REFUSED, WAIT_OVER, UNREACHABLE = 0, 1, 2, 3, 4, 6


class Operator(scenario.Scenario):
    def assert_exit(self, code, node, *arguments, says=()):
        got, out, error = node.duet(*arguments)
        self.assertEqual(got, code, f"duet {' '.join(arguments)}: {out}{error}")
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, out + error)

    def test_exit_codes_and_orders(self):
        self.pair.prepare()
        self.assert_exit(UNREACHABLE, self.red, "status")
        for node in self.pair.nodes.values():
            node.start()
        self.pair.wait_healthy()

        with self.subTest("usage"):
            for arguments in (["no-such-command"], [], ["takeover"], ["takeover", "green"],
                              ["lun", "create", "x"], ["lun", "create", "x", "12parsecs"]):
                self.assert_exit(USAGE, self.red, *arguments)
        with self.subTest("status on one screen"):
            code, out, _ = self.red.duet("status")
            self.assertEqual(code, DONE)
            self.assertLessEqual(len(out.splitlines()), 24)
            for word in ("red", "blue", "mirrored"):
                self.assertIn(word, out)
        with self.subTest("failed"):
            self.assert_exit(FAILED, self.red, "lun", "delete", "no-such-lun", says="no-such-lun")
            self.assert_exit(FAILED, self.red, "lun", "create", "too-big", "100TiB")
        with self.subTest("luns and disks"):
            self.assert_exit(DONE, self.red, "lun", "create", "one", "16MiB")
            self.assert_exit(FAILED, self.red, "lun", "create", "one", "16MiB", says="one")
            _, report = self.red.json("lun", "list")
            self.assertEqual([(l["name"], l["size"]) for l in report["luns"] if l["identity"] == 1],
                             [("one", 16 << 20)])
            self.assert_exit(DONE, self.red, "lun", "delete", "one")
            _, report = self.red.json("disk", "list")
            self.assertEqual(len(report["disks"]), 2 * pair_module.Shelf.DISKS)
        with self.subTest("refused, with reasons, and nothing changed"):
            before = self.red.status()["identities"]
            self.assert_exit(REFUSED, self.red, "giveback", "blue")
            _, _, error = self.red.duet("giveback", "blue")
            self.assertTrue(error.strip())
            after = self.red.status()["identities"]
            # Only of its own identity: the partner's epoch becomes known when the partner tells.
            self.assertEqual([(i["epoch"], i["served_here"]) for i in before if i["name"] == "red"],
                             [(i["epoch"], i["served_here"]) for i in after if i["name"] == "red"])
        with self.subTest("init is refused while the daemon runs or disks have labels"):
            code, _, error = self.red.duet("init")
            self.assertNotEqual(code, DONE)
            self.assertTrue(error.strip())
        with self.subTest("wait over, and the job goes on"):
            t = pair_module.boottime_ns()
            self.assert_exit(WAIT_OVER, self.blue, "takeover", "red", "--wait", "0")
            self.pair.wait_event("takeover.serving", t, 20, "blue")
        with self.subTest("giveback"):
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            self.assert_exit(DONE, self.blue, "giveback", "red")
            self.pair.wait_healthy()
        with self.subTest("events"):
            code, out, _ = self.blue.duet("events", "--json")
            self.assertEqual(code, DONE)
            phases = [json.loads(line)["phase"] for line in out.splitlines()]
            self.assertIn("takeover.serving", phases)
            self.assertIn("giveback.done", phases)

    def test_takeover_by_order_loses_nothing(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            self.blue.must("takeover", "red")
            self.blue.wait_status(pair_module.serves_both, 10, "serves both")
            load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            self.blue.must("giveback", "red")
            self.pair.wait_healthy()
            self.assert_nothing_lost(load)

    def test_halt_lets_the_partner_take_over(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            t = pair_module.boottime_ns()
            self.red.must("halt", "red")
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
            self.assert_nothing_lost(load)

    def test_answers_at_once_with_the_partner_dead(self):
        self.pair.start()
        t = self.red.kill()
        self.pair.wait_event("takeover.serving", t, 20, "blue")
        for arguments in (["status"], ["status", "--json"], ["lun", "list"], ["disk", "list"],
                          ["events"], ["giveback", "red"]):
            begin = time.monotonic()
            code, _, error = self.blue.duet(*arguments)
            took = time.monotonic() - begin
            self.assertLess(took, 1.0 * self.pair.scale, arguments)
            self.assertEqual(code, REFUSED if arguments[0] == "giveback" else DONE, error)
        report = self.blue.status()
        self.assertEqual(pair_module.state_of(report), pair_module.SERVING_ALONE)


class Configuration(scenario.Scenario):
    def test_errors_name_the_key(self):
        cases = (
            ({"engine.cahce": '"1MiB"'}, "engine.cahce"),
            ({"node.id": "3"}, "node.id"),
            ({"nvram.size": '"lots"'}, "nvram.size"),
            ({"interconnect.port": "0"}, "interconnect.port"),
            ({"takeover.mailbox_silence_ms": '"soon"'}, "takeover.mailbox_silence_ms"),
            ({"cluster.secret_file": '""'}, "cluster.secret_file"),
        )
        for overrides, key in cases:
            with self.subTest(key=key):
                self.red.write_config(self.pair.secret, overrides)
                code, _, error = self.red.duet("status")
                self.assertEqual(code, USAGE)
                self.assertIn(key, error)
                process = self.pair.spawn([self.pair.program("duetd"), "--config", self.red.config],
                                          "red.log")
                code = process.wait(5 * self.pair.scale)
                self.assertNotIn(code, (None, 0))
                self.assertIn(key, self.pair.tail("red.log"))


if __name__ == "__main__":
    unittest.main()
