#!/usr/bin/python3
"""./dev check chaos: a pair of real processes under random faults, with clients that verify everything.

Rounds until the time is over. In each one some of: SIGKILL, SIGABRT, SIGSTOP of engine or supervisor, loss
of a node's NVRAM, shelf faults, interconnect faults, orders of an operator, second faults at the steps of a
takeover or giveback, death of both nodes. Then everything is repaired, and the pair has to come home. After
every round: no acknowledged write lost, no wrong read, each identity served by one node, reservations of the
home node alone, both nodes healthy within a bound, no program broken.

What happens in a round follows from the seed and its number; when exactly, does not. A failure names both:
./dev check chaos --seed S --round R runs that round again.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import statistics
import sys
import time

import chaos_checks as checks
import chaos_plans as plans
import load as load_module
import pair as pair_module
from chaos_stage import Stage, Unclean

LUNS = 2  # of each identity under the load
LOAD = ("--interval", "10", "--blocks", "512")
PATIENCE = 5  # s: the other load leaves a session only if it hears nothing for so long
KEPT = ("*.log", "*.jsonl", "*.err", "*/node.toml", "shelf-*/*.reservations")


class Chaos:
    def __init__(self, pair, arguments):
        self.pair = pair
        self.arguments = arguments
        pair.start()
        urls = [pair.create_lun(name, f"load-{i}", "64MiB") for i in range(LUNS)
                for name in pair_module.NODES]
        self.patterns = [checks.Pattern(pair.create_lun(name, "pattern", "8MiB"))
                         for name in pair_module.NODES]
        self.load = load_module.Load(pair, urls, extra=LOAD)
        self.patient = load_module.Load(
            pair, [pair.create_lun(name, "patient", "64MiB") for name in pair_module.NODES], "patient",
            extra=(*LOAD, "--deadline", PATIENCE * 1000))
        self.stage = Stage(pair, self.load)
        self.logs = checks.Logs(pair)
        self.pauses = collections.defaultdict(list)
        self.took = collections.defaultdict(list)

    def round(self, number, plan):
        self.load.mark(f"round {number}")
        if number % 5 == 1:
            for pattern in self.patterns:
                pattern.write(number)
        began = time.monotonic()
        self.stage.begin_round()
        for step in plan.steps:
            self.stage.perform(step)
        self.stage.repair()
        repaired = time.monotonic()
        split = checks.SplitService(self.pair)
        split.look(*random.sample(pair_module.NODES, 2))
        reports = checks.come_home(self.pair, self.stage)
        home = time.monotonic()
        self.check(reports)
        if number % 5 == 0:
            for pattern in self.patterns:
                pattern.verify()
        pause = self.load.mark("between")["pause_ms"]
        self.pauses[plan.kind].append(pause)
        self.took[plan.kind].append(home - repaired)
        print(f"{number:>4} {plan.kind:<17} {repaired - began:5.1f} s, home in {home - repaired:5.1f} s, "
              f"pause {pause:6.0f} ms{self.moves()}: {plan.text()}"
              + (f" ({'; '.join(self.stage.notes)})" if self.stage.notes else ""), flush=True)

    def check(self, reports):
        checks.no_panic_but_ours(self.pair, self.stage)
        checks.one_server_each(reports)
        checks.reservations_of_home_nodes(self.pair, reports)
        t = pair_module.boottime_ns()
        for load in (self.load, self.patient):
            try:
                load.wait_flowing(t, (PATIENCE + 5) * self.pair.scale)
            except TimeoutError as e:
                raise Unclean(str(e)) from None
            checks.nothing_lost(load)
        self.logs.look()

    def moves(self):
        """Who took over in this round, in short."""
        names = [e.node for e in self.pair.events.since(self.stage.began, "takeover.serving")]
        return f", taken over by {'+'.join(names)}" if names else ""

    def finish(self):
        for pattern in self.patterns:
            pattern.verify()
        done = collections.Counter()
        for load in (self.load, self.patient):
            summary = load.stop()
            if load.exit_code != 0:
                raise Unclean(f"the load: {summary}; {load.events()[-20:]}")
            done.update({k: v for k, v in summary.items() if isinstance(v, int)})
        return done

    def summary(self):
        lines = [f"{'rounds of':<18} {'number':>6} {'pause median':>13} {'max':>8} {'home median':>12} {'max':>6}"]
        for kind, pauses in sorted(self.pauses.items()):
            took = self.took[kind]
            lines.append(f"{kind:<18} {len(pauses):>6} {statistics.median(pauses):>10.0f} ms {max(pauses):>5.0f} ms "
                         f"{statistics.median(took):>10.1f} s {max(took):>4.1f} s")
        return "\n".join(lines)


def keep(pair, chaos, why, name):
    """Leaves what explains a failure, and returns where."""
    place = pathlib.Path(os.environ.get("DUET_CHAOS_DIR", pair_module.bin_directory().parent)) / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "why").write_text(why + "\n")
    for pattern in KEPT:
        for path in pair.directory.glob(pattern):
            shutil.copy(path, place / str(path.relative_to(pair.directory)).replace("/", "-"))
    (place / "events").write_text("".join(f"{e}\n" for e in pair.events.since(0)))
    reports = {n: node.status() for n, node in pair.nodes.items() if n not in (chaos.stage.stopped if chaos else ())}
    (place / "status.json").write_text(json.dumps(reports, indent=1))
    return place


def run(arguments, seed):
    number, plan, chaos = 0, plans.Plan("start", []), None
    settings = plans.settings(seed)
    print(f"seed {seed}: {', '.join(f'{k} = {v}' for k, v in settings.items())}", flush=True)
    with pair_module.Pair(cable=True, overrides=settings) as pair:
        try:
            chaos = Chaos(pair, arguments)
            end = time.monotonic() + arguments.minutes * 60
            numbers = iter(arguments.round) if arguments.round else iter(range(1, 1_000_000))
            for number in numbers:
                plan = (plans.Plan("script", [s.strip() for s in arguments.script.split(";")])
                        if arguments.script else plans.plan(seed, number, arguments.only))
                chaos.round(number, plan)
                if time.monotonic() > end:
                    break
            done = chaos.finish()
        except Exception as e:
            why = f"seed {seed}, round {number} ({plan.kind}): {plan.text()}\n{type(e).__name__}: {e}"
            place = keep(pair, chaos, why, f"chaos-{seed}-{number}")
            print(f"FAILED: {why}\nlogs: {place}", flush=True)
            return 1
        print(chaos.summary())
        print(f"clean: seed {seed}, {number} rounds; {done['ops']} requests, {done['verified']} writes verified, "
              f"{done['reconnects']} reconnects, lost 0")
        return 0


def main():
    parser = argparse.ArgumentParser(prog="./dev check chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="no new round afterwards (1)")
    parser.add_argument("--seed", type=int, help="default: a new one")
    parser.add_argument("--round", type=int, action="append", help="only this one; may be repeated")
    parser.add_argument("--only", action="append", metavar="KIND", type=lambda k: k.replace("-", "_"),
                        choices=[f.__name__ for _, f in plans.KINDS], help="may be repeated")
    parser.add_argument("--script", help="these steps in every round (chaos_stage.py)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    pair_module.exit_on_signals()
    return run(arguments, seed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
