#!/usr/bin/python3
"""A shelf misbehaves under a running pair: its power blinks, a path is cut."""

import time
import unittest

import pair as pair_module
import scenario


class ShelfFaults(scenario.Scenario):
    def command(self, line):
        answer = self.pair.shelves["red"].command(line)
        self.assertTrue(answer.startswith("ok"), answer)

    def test_power_blip(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            time.sleep(0.5)
            self.command("power-blip")
            load.wait_flowing(pair_module.boottime_ns() + 1_000_000_000, 20 * self.pair.scale)
            self.pair.wait_healthy(30)
            self.assert_nothing_lost(load)

    def test_power_gone_for_a_while(self):
        urls = self.start_with_luns()
        with self.load(urls) as load:
            time.sleep(0.5)
            self.command("power-off")
            time.sleep(3)
            self.command("power-on")
            # Whoever serves red's LUN afterwards, it is served, and everything is there.
            load.wait_flowing(pair_module.boottime_ns(), 40 * self.pair.scale)
            self.assert_nothing_lost(load)


if __name__ == "__main__":
    unittest.main()
