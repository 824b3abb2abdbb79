#!/usr/bin/python3
"""./dev bench storage: the storage beside tgt, and what the pool itself costs.

The pair (RAID 4, mirrored, through its consistency points) against tgt in one run, rounds interleaved; then
duet-storage-bench: stripes, amplification, open, replay, snapshots, files, on disks in memory.
"""

import argparse
import json
import statistics
import subprocess
import sys

import bench_io
import figures
import pair as pair_module

RATIOS = (  # name, case of bench_io, beside, aim
    ("randwrite_qd32_over_tgt_osync", "randwrite_4k_qd32", "tgt_sync", ">= 2"),
    ("randwrite_qd32_over_tgt_shm", "randwrite_4k_qd32", "tgt_shm", ">= 0.8"),
    ("randread_qd32_over_tgt_shm", "randread_4k_qd32", "tgt_shm", ">= 1"),
    ("write_256k_over_tgt_shm", "write_256k_qd8", "tgt_shm", ">= 0.7"),
    ("read_256k_over_tgt_shm", "read_256k_qd8", "tgt_shm", ">= 0.7"),
)
AIMS = {  # of duet-storage-bench
    "full_stripe_share": ">= 80",
    "write_amplification": "<= 2.2",
    "open_half_full": "<= 100",
    "open_with_files": "<= 100",
    "replay": ">= 500",
    "snapshot_create_points": "<= 1",
}


SHORT = 0.1  # seconds: less than a consistency point takes
ENOUGH, TRIES = 25, 400  # short runs of either kind; in all
CASE = ("", "randwrite", "4096", 8)
# Time between two consistency points takes a log that holds more than they do.
LARGE_LOG = {"nvram.size": '"1GiB"', "engine.cache": '"256MiB"'}


def point(pair):
    """How many consistency points there were, and whether one is under way."""
    _, pool = pair.red.json("pool", "status")
    return pool["consistency_points"], pool["consistency_point_under_way"]


def latency():
    """Medians of the p99 of writes while a consistency point is under way, and while none is."""
    during, outside = [], []
    with pair_module.Pair(overrides=LARGE_LOG) as pair:
        pair.start()
        url = pair.create_lun("red", "bench", "512MiB")
        bench_io.run_case(pair, url, (), bench_io.CASES[4], 0.1, "--fill")
        for _ in range(TRIES):
            before = point(pair)
            p99 = bench_io.run_case(pair, url, (), CASE, SHORT)["p99_us"]
            none = before == point(pair) and not before[1]
            (outside if none else during).append(p99)
            if min(len(during), len(outside)) >= ENOUGH:
                return statistics.median(during), statistics.median(outside)
    raise RuntimeError(f"{len(during)} runs with a consistency point, {len(outside)} without: the figure means nothing")


def of_pair(rounds, seconds):
    results = bench_io.measure(rounds, seconds)
    print(bench_io.table(results), file=sys.stderr)
    return [(name, results["duet", case]["iops"] / results[other, case]["iops"], "", aim)
            for name, case, other, aim in RATIOS]


def of_pool(program, arguments):
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, timeout=1800, check=False,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError("duet-storage-bench failed")
    items = [json.loads(line) for line in done.stdout.splitlines()]
    return [(i["name"], i["value"], i["unit"], AIMS.get(i["name"], "reported")) for i in items]


def main():
    parser = argparse.ArgumentParser(prog="./dev bench storage", description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement of the pair")
    parser.add_argument("--files", type=int, default=1_000_000, help="in one directory")
    parser.add_argument("--snapshots", type=int, default=1000)
    arguments = parser.parse_args()
    pair_module.exit_on_signals()
    measured = of_pair(arguments.rounds, arguments.seconds)
    during, outside = latency()
    measured += [("p99_during_cp", during, "us", "reported"), ("p99_outside_cp", outside, "us", "reported"),
                 ("p99_during_cp_over_outside", during / outside, "", "<= 2")]
    measured += of_pool(pair_module.bin_directory() / "duet-storage-bench",
                        ["--files", str(arguments.files), "--snapshots", str(arguments.snapshots)])
    for name, value, unit, aim in measured:
        print(f"{name:<34} {value:>12.4g} {unit:<5} {aim}")
    if arguments.json:
        figures.write(arguments.json, [figures.figure(name, round(value, 4), unit)
                                       for name, value, unit, _ in measured])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
