#!/usr/bin/python3
"""The failover monitor and `duet ha check`: what is in the way is named before it is needed."""

import unittest

import scenario

DONE, FAILED = 0, 1


class Health(scenario.Scenario):
    def module(self, node, about, name):
        _, report = node.json("health")
        for each in report["nodes"]:
            if each["name"] == about:
                return next(m for m in each["modules"] if m["module"] == name)
        return None

    def wait_module(self, node, about, name, *healths):
        node.wait_status(lambda _: (m := self.module(node, about, name)) and m["health"] in healths,
                         20, f"{name} of {about} is {' or '.join(healths)}")

    def checked(self, node):
        code, report = node.json("ha", "check")
        return code, {c["node"]: c for c in report["takeovers"]}

    def wait_ready(self, node):
        node.wait_status(lambda _: self.checked(node)[0] == DONE, 20, "both can be taken over")

    def test_what_is_in_the_way_is_named_and_clears(self):
        self.pair.start()
        self.wait_ready(self.red)
        code, report = self.checked(self.red)
        self.assertEqual(code, DONE)
        self.assertTrue(report[2]["rehearsed"])
        self.assertTrue(report[1]["possible"] and report[2]["possible"])
        code, out, _ = self.red.duet("ha", "check", "blue")
        self.assertEqual(code, DONE, out)
        self.assertIn("yes", out)

        # Red's path to blue's shelf: red cannot take over, and both nodes know it.
        shelf = self.pair.shelves["blue"]
        shelf.command(f"cut-path {shelf.hosts['red']}:3260")
        self.wait_module(self.red, "red", "paths", "failed")
        self.wait_module(self.blue, "red", "paths", "failed")
        code, report = self.checked(self.red)
        self.assertEqual(code, FAILED)
        names = [v["name"] for v in report[2]["vetoes"]]
        self.assertIn("partner_disks_unreachable", names)
        self.assertTrue(all(v["clears"] for v in report[2]["vetoes"]))
        code, report = self.checked(self.blue)
        self.assertEqual(code, FAILED)
        self.assertIn("partner_disks_unreachable", [v["name"] for v in report[2]["vetoes"]])
        code, _, error = self.red.duet("takeover", "blue")
        self.assertEqual(code, 3, error)

        shelf.command("restore-path all")
        # A command that was under way when the path went counts as an error for a minute.
        self.wait_module(self.red, "red", "paths", "good", "degraded")
        self.wait_ready(self.red)
        self.wait_ready(self.blue)

    def test_records_are_kept_in_nvram(self):
        self.pair.start()
        self.wait_ready(self.blue)
        self.red.kill()
        self.blue.kill()
        self.blue.start()
        # Alone after a restart, blue knows what red said last.
        self.blue.wait_status(lambda _: self.module(self.blue, "red", "disks") is not None, 20,
                              "the kept record of red is shown")
        _, report = self.blue.json("health")
        red = next(n for n in report["nodes"] if n["name"] == "red")
        self.assertEqual(red["source"], "kept in NVRAM")


class LostDisks(scenario.Scenario):
    def test_a_node_that_lost_its_shelf_is_taken_over(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            shelf = self.pair.shelves["red"]
            shelf.command(f"cut-path {shelf.hosts['red']}:3260")
            since = self.pair.events.since(0)[-1].t
            self.pair.wait_event("takeover.serving", since, 30, "blue")
            shelf.command("restore-path all")
            self.come_home(load)


if __name__ == "__main__":
    unittest.main()
