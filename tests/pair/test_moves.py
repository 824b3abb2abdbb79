#!/usr/bin/python3
"""The moves of the demo, under load: a takeover, the way home, and nothing lost."""

import unittest

import moves
import pair as pair_module
import scenario


class Moves(scenario.Scenario):
    def round(self, act):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            move = act(load)
            self.assert_nothing_lost(load)
        for name in pair_module.NODES:
            own = pair_module.identity(self.pair.nodes[name].status(), name)
            self.assertTrue(own["served_here"])
        phases = [e.phase for e in move.events]
        for phase in ("takeover.fenced", "takeover.serving", "boot.givewait", "boot.mbwait",
                      "giveback.released", "giveback.mailbox_written", "giveback.done"):
            self.assertIn(phase, phases)
        order = [phases.index(p) for p in ("takeover.fenced", "takeover.serving",
                                           "giveback.released", "giveback.mailbox_written")]
        self.assertEqual(order, sorted(order))

    def test_engine_panic(self):
        self.round(lambda load: moves.engine_panic(self.pair, load, self.red))

    def test_node_killed(self):
        self.round(lambda load: moves.node_killed(self.pair, load, self.red))

    def test_node_stopped_and_resumed_fences_itself(self):
        self.round(lambda load: moves.node_stopped(self.pair, load, self.red, 4 * self.pair.scale))

    def test_the_other_node_too(self):
        self.round(lambda load: moves.engine_panic(self.pair, load, self.blue))


class AutoGiveback(scenario.Scenario):
    overrides = {"takeover.auto_giveback": "true"}

    def test_comes_home_by_itself(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            t = self.red.crash_engine()
            self.pair.wait_event("takeover.serving", t, 20, "blue")
            self.pair.wait_event("giveback.done", t, 30, "blue")
            self.pair.wait_healthy()
            self.assert_nothing_lost(load)


if __name__ == "__main__":
    unittest.main()
