#!/usr/bin/python3
"""The interconnect fails while both nodes live; and a partner that does not know the secret."""

import secrets
import time
import unittest

import pair as pair_module
import scenario


def own_durability(report):
    return pair_module.identity(report, report["name"])["durability"]


class Cut(scenario.Scenario):
    cable = True

    def cut_and_wait_write_through(self):
        t = pair_module.boottime_ns()
        self.pair.cut_interconnect()
        for node in self.pair.nodes.values():
            report = node.wait_status(lambda s: own_durability(s) == "write-through", 15, "write-through")
            self.assertEqual(pair_module.state_of(report), "up")
        return t

    def test_no_takeover_and_back_to_mirrored(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            t = self.cut_and_wait_write_through()
            # Longer than both silences together: whoever wanted to take over would have done it.
            time.sleep(2 * self.pair.scale)
            self.assert_no_takeover(t)
            for node in self.pair.nodes.values():
                self.assertNotEqual(node.status()["link"], "ready")
            load.wait_flowing(pair_module.boottime_ns(), 5 * self.pair.scale)
            self.pair.heal_interconnect()
            self.pair.wait_healthy(30)
            self.assert_no_takeover(t)
            load.wait_flowing(pair_module.boottime_ns(), 5 * self.pair.scale)
            self.assert_nothing_lost(load)

    def test_a_node_that_dies_during_the_cut_loses_nothing(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            self.cut_and_wait_write_through()
            load.wait_flowing(pair_module.boottime_ns(), 5 * self.pair.scale)
            t = self.red.kill()
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
            self.assert_nothing_lost(load)

    def test_flapping(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            t = pair_module.boottime_ns()
            for _ in range(5):
                self.pair.cut_interconnect()
                time.sleep(0.3)
                self.pair.heal_interconnect()
                time.sleep(0.3)
            self.pair.wait_healthy(30)
            self.assert_no_takeover(t)
            self.assert_nothing_lost(load)


class WrongSecret(scenario.Scenario):
    def test_named_and_both_serve_alone(self):
        self.pair.prepare()
        self.blue.write_config(secrets.token_bytes(32))
        for node in self.pair.nodes.values():
            node.start()
        reports = [node.wait_status(lambda s: own_durability(s) == "write-through", 30,
                                    "serves alone, write-through") for node in self.pair.nodes.values()]
        self.assertIn("authentication failed", [r["link"] for r in reports])
        for node in self.pair.nodes.values():
            begin = time.monotonic()
            self.assertEqual(pair_module.state_of(node.status()), "up")
            self.assertLess(time.monotonic() - begin, 1 * self.pair.scale)
        urls = [self.pair.create_lun(name) for name in pair_module.NODES]
        with self.load(urls) as load:
            time.sleep(1)
            self.assert_nothing_lost(load)
        self.assert_no_takeover(0)


if __name__ == "__main__":
    unittest.main()
