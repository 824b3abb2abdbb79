#!/usr/bin/python3
"""./dev bench failover: how long clients wait for a takeover and for a giveback.

Pause = longest gap between completions of a 4 KiB write and read-back every 5 ms over one reconnecting
initiator for each LUN; of both LUNs the longer. Default timers.
"""

import argparse
import statistics
import sys

import figures
import load as load_module
import moves
import pair as pair_module

AIMS_MS = {"panic_pause_median": 250, "node_killed_pause_median": 1300, "giveback_pause_median": 100}


def measure(rounds):
    """Returns ({name: [ms]}, lost, clean)."""
    samples = {"panic_pause": [], "node_killed_pause": [], "giveback_pause": []}
    with pair_module.Pair() as pair:
        pair.start()
        urls = [pair.create_lun(name, f"{name}-lun") for name in pair_module.NODES]
        with load_module.Load(pair, urls) as load:
            for number in range(rounds):
                for name, act in (("panic_pause", moves.engine_panic),
                                  ("node_killed_pause", moves.node_killed)):
                    victim = pair.nodes[pair_module.NODES[number % 2]]
                    move = act(pair, load, victim)
                    samples[name].append(move.takeover_pause_ms)
                    samples["giveback_pause"].append(move.giveback_pause_ms)
                    print(f"{number + 1:>3} {move.kind:<7} of {victim.name:<5} takeover "
                          f"{move.takeover_pause_ms:>7.1f} ms  giveback {move.giveback_pause_ms:>6.1f} ms",
                          file=sys.stderr, flush=True)
            summary = load.stop()
    return samples, summary["lost"], load.exit_code == 0


def main():
    parser = argparse.ArgumentParser(prog="./dev bench failover", description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--moves", type=int, default=20, help="of each kind")
    arguments = parser.parse_args()
    pair_module.exit_on_signals()
    samples, lost, clean = measure(arguments.moves)
    result = []
    for name, values in samples.items():
        for kind, value in (("median", statistics.median(values)), ("max", max(values))):
            full = f"{name}_{kind}"
            result.append(figures.figure(full, round(value, 1), "ms", AIMS_MS.get(full)))
    result.append(figures.figure("lost_acknowledged_writes", lost, "", 0))
    print(figures.table(result))
    if arguments.json:
        figures.write(arguments.json, result)
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
