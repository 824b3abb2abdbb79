#!/usr/bin/python3
"""./dev bench failover: how long clients wait for a takeover and for a giveback.

Pause = longest gap between completions of a 4 KiB write and read-back every 5 ms over one reconnecting
initiator for each LUN; of all LUNs the longest. Default timers.

Without options: the moves, and the uncoordinated giveback (first given back, then a boot of 20 s) as the
yardstick. --luns and --log: tables of how the pause grows with the number of LUNs and with what is in the
log. --quick: a few moves only.
"""

import argparse
import statistics
import sys

import bench_growth
import figures
import load as load_module
import moves
import pair as pair_module

AIMS_MS = {"planned_takeover_pause_median": 80, "planned_takeover_pause_max": 250,
           "giveback_pause_median": 60, "giveback_pause_max": 250,
           "panic_pause_median": 250, "node_killed_pause_median": 1100}
MOVES = (("planned_takeover_pause", moves.planned), ("panic_pause", moves.engine_panic),
         ("node_killed_pause", moves.node_killed))
PHASES = ("partner.silent", "partner.panic_seen", "takeover.checking", "takeover.warming",
          "takeover.counting_down", "departure.handing_over", "handover.draining", "departure.handed_over",
          "partner.departed", "takeover.window_closed", "takeover.fenced", "takeover.marked", "replay.applied",
          "takeover.serving")
GIVEBACK_PHASES = ("giveback.stopping", "release.draining", "giveback.stopped", "giveback.mailbox_written",
                   "boot.claimed", "node.up", "giveback.done")
BOOT_SECONDS = 20


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self):
        self.samples = {name: [] for name, _ in MOVES} | {"giveback_pause": []}
        self.phases = {}  # {kind: {phase: [ms]}}
        self.uncoordinated_ms = None
        self.summary = None

    def run(self, rounds, boot_seconds):
        with pair_module.Pair() as pair:
            pair.start()
            urls = [pair.create_lun(name, f"{name}-lun") for name in pair_module.NODES]
            with load_module.Load(pair, urls) as load:
                for number in range(rounds):
                    for name, act in MOVES:
                        self.one(name, act(pair, load, pair.nodes[pair_module.NODES[number % 2]]), number)
                if boot_seconds:
                    move = moves.uncoordinated(pair, load, pair.red, boot_seconds)
                    self.uncoordinated_ms = move.giveback_pause_ms if move else None
                    say(f"uncoordinated giveback: {self.uncoordinated_ms or 'not known to duet'} ms")
                self.summary = load.stop()
            return load.exit_code == 0

    def one(self, name, move, number):
        self.samples[name].append(move.takeover_pause_ms)
        self.samples["giveback_pause"].append(move.giveback_pause_ms)
        for kind, start, names in ((move.kind, move.t0, PHASES), ("giveback", move.giveback_t, GIVEBACK_PHASES)):
            phases = self.phases.setdefault(kind, {})
            for phase in names:
                t = move.after(start, phase)
                if t is not None:
                    phases.setdefault(phase, []).append(t)
        say(f"{number + 1:>3} {move.kind:<7} takeover {move.takeover_pause_ms:>7.1f} ms  "
            f"giveback {move.giveback_pause_ms:>6.1f} ms")

    def figures(self):
        out = []
        for name, values in self.samples.items():
            for kind, value in (("median", statistics.median(values)), ("max", max(values))):
                full = f"{name}_{kind}"
                out.append(figures.figure(full, round(value, 1), "ms", AIMS_MS.get(full)))
        if self.uncoordinated_ms:
            coordinated = statistics.median(self.samples["giveback_pause"])
            out.append(figures.figure("uncoordinated_giveback_pause", round(self.uncoordinated_ms, 1), "ms"))
            out.append(figures.figure("uncoordinated_to_coordinated",
                                      round(self.uncoordinated_ms / coordinated), "x"))
        out.append(figures.figure("lost_acknowledged_writes", self.summary["lost"], "", 0))
        return out

    def timeline(self):
        """Where the time goes: medians from the fault, or the order, to each event. The pause of a planned
        move is less than the way to its end, as clients are served until the draining."""
        lines = []
        for kind, phases in self.phases.items():
            lines.append(f"{kind}: ms from the {'order' if kind in ('planned', 'giveback') else 'fault'}")
            lines += [f"  {statistics.median(values):>8.1f}  {phase}" for phase, values in
                      sorted(phases.items(), key=lambda item: statistics.median(item[1]))]
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench failover", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--moves", type=int, default=20, help="of each kind (20)")
    parser.add_argument("--quick", action="store_true", help="3 moves of each kind, no yardstick")
    parser.add_argument("--luns", action="store_true", help="only the table: 1, 100, 1,000 LUNs")
    parser.add_argument("--log", action="store_true", help="only the table: empty and full log")
    parser.add_argument("--repeat", type=int, default=5, help="moves for each cell of a table (5)")
    arguments = parser.parse_args()
    pair_module.exit_on_signals()
    result, clean = [], True
    if not (arguments.luns or arguments.log):
        bench = Bench()
        clean = bench.run(3 if arguments.quick else arguments.moves, 0 if arguments.quick else BOOT_SECONDS)
        print(bench.timeline())
        result += bench.figures()
        print(figures.table(result))
    for wanted, measure in ((arguments.luns, bench_growth.luns), (arguments.log, bench_growth.log)):
        if wanted:
            table, more = measure(arguments.repeat)
            print(table)
            result += more
    if arguments.json:
        figures.write(arguments.json, result)
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
