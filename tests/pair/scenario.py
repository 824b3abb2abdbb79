"""What the process tests share."""

import time
import unittest

import load as load_module
import pair as pair_module

SIGNS_OF_A_BUG = ("Sanitizer", "runtime error:", "ASSERT", "UNREACHABLE", "terminate called")


class Scenario(unittest.TestCase):
    """Each test gets a pair of its own in self.pair, not yet started."""

    cable = False
    overrides = None

    def setUp(self):
        self.pair = pair_module.Pair(cable=self.cable, overrides=self.overrides)
        self.addCleanup(self.pair.close)
        self.addCleanup(self._show_logs)
        self.addCleanup(self._no_program_broke)
        self.red, self.blue = self.pair.red, self.pair.blue

    def _show_logs(self):
        outcome = self._outcome.result
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            for name in pair_module.NODES:
                print(f"---- {name}: {self.pair.tail(name + '.log', 30)}")
            for event in self.pair.events.since(0)[-60:]:
                print("    ", event)

    def _no_program_broke(self):
        """A takeover heals a crash so well that it would go unnoticed."""
        for path in sorted(self.pair.directory.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                self.assertFalse(any(sign in line for sign in SIGNS_OF_A_BUG), f"{path.name}: {line}")

    def start_with_luns(self):
        self.pair.start()
        return [self.pair.create_lun(name) for name in pair_module.NODES]

    def load(self, urls, **options):
        return load_module.Load(self.pair, urls, **options)

    def assert_nothing_lost(self, load):
        summary = load.stop()
        self.assertEqual((summary["lost"], summary["bad_reads"], summary["hard_errors"],
                          summary["unverified"], load.exit_code), (0, 0, 0, 0, 0),
                         (load.complaints(), load.events()[-20:]))
        self.assertGreater(summary["verified"], 0)
        return summary

    def bring_home(self, timeout=60):
        """Whoever serves both identities gives back, until both nodes are healthy. Nodes that do not
        run are started."""
        for node in self.pair.nodes.values():
            if not node.process.running():
                node.start()
        limit = time.monotonic() + timeout * self.pair.scale
        while True:
            reports = {name: node.status() for name, node in self.pair.nodes.items()}
            if all(r and pair_module.is_healthy(r) for r in reports.values()):
                break
            for name, report in reports.items():
                if report and pair_module.serves_both(report) and report["giveback"]["possible"]:
                    self.pair.nodes[name].duet("giveback", self.pair.nodes[name].partner_name)
            self.assertLess(time.monotonic(), limit, f"the pair does not come home: {reports}")
            with self.pair.events.changed:
                self.pair.events.changed.wait(0.1)

    def come_home(self, load, timeout=60):
        """The same under load: nothing is lost."""
        self.bring_home(timeout)
        load.wait_flowing(pair_module.boottime_ns(), 10 * self.pair.scale)
        self.assert_nothing_lost(load)

    def assert_no_takeover(self, since):
        self.assertEqual(self.pair.events.since(since, "takeover.serving"), [])
        self.assertEqual(self.pair.events.since(since, "takeover.fenced"), [])
