"""What the process tests share."""

import unittest

import load as load_module
import pair as pair_module


class Scenario(unittest.TestCase):
    """Each test gets a pair of its own in self.pair, not yet started."""

    cable = False
    overrides = None

    def setUp(self):
        self.pair = pair_module.Pair(cable=self.cable, overrides=self.overrides)
        self.addCleanup(self.pair.close)
        self.addCleanup(self._show_logs)
        self.red, self.blue = self.pair.red, self.pair.blue

    def _show_logs(self):
        outcome = self._outcome.result
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            for name in pair_module.NODES:
                print(f"---- {name}: {self.pair.tail(name + '.log', 30)}")
            for event in self.pair.events.since(0)[-60:]:
                print("    ", event)

    def start_with_luns(self):
        self.pair.start()
        return [self.pair.create_lun(name) for name in pair_module.NODES]

    def load(self, urls, **options):
        return load_module.Load(self.pair, urls, **options)

    def assert_nothing_lost(self, load):
        summary = load.stop()
        self.assertEqual((summary["lost"], summary["bad_reads"], summary["hard_errors"],
                          summary["unverified"], load.exit_code), (0, 0, 0, 0, 0), load.events()[-20:])
        self.assertGreater(summary["verified"], 0)
        return summary

    def assert_no_takeover(self, since):
        self.assertEqual(self.pair.events.since(since, "takeover.serving"), [])
        self.assertEqual(self.pair.events.since(since, "takeover.fenced"), [])
