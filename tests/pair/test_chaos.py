#!/usr/bin/python3
"""Chaos follows from its seed, and says only what the stage understands."""

import unittest

import chaos_plans as plans
from chaos_stage import Stage


class Plans(unittest.TestCase):
    def test_same_seed_same_plan(self):
        for number in range(200):
            self.assertEqual(plans.plan(7, number), plans.plan(7, number))
        self.assertNotEqual([plans.plan(7, n) for n in range(20)], [plans.plan(8, n) for n in range(20)])

    def test_every_kind_comes_up_and_every_step_is_known(self):
        kinds, verbs = set(), set()
        for number in range(3000):
            plan = plans.plan(1, number)
            kinds.add(plan.kind)
            verbs.update(step.split()[0].replace("-", "_") for step in plan.steps)
        self.assertEqual(len(kinds), len(plans.KINDS))
        self.assertEqual(verbs, {name[3:] for name in dir(Stage) if name.startswith("do_")})

    def test_faults_are_bounded(self):
        for number in range(3000):
            waits = [float(s.split()[1]) for s in plans.plan(2, number).steps if s.startswith("wait ")]
            self.assertLessEqual(sum(waits), 40)

    def test_one_kind(self):
        self.assertEqual({plans.plan(3, n, ["both_die"]).kind for n in range(50)}, {"both-die"})


if __name__ == "__main__":
    unittest.main()
