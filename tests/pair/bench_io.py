#!/usr/bin/python3
"""./dev bench io: the mirrored pair beside tgt on /dev/shm and on an O_SYNC file.

Same machine, same run, rounds interleaved, medians. The pair acknowledges a write when it is in two
NVRAMs; tgt on /dev/shm keeps it in one memory, on O_SYNC on one disk. CPU of the servers counts
everything: both nodes and both shelves, or tgtd.
"""

import argparse
import json
import statistics
import subprocess
import sys

import figures
import pair as pair_module
import tgt as tgt_module

SPAN_MIB = 256
CASES = (  # name, pattern, size, depth
    ("randwrite_4k_qd1", "randwrite", "4096", 1),
    ("randwrite_4k_qd32", "randwrite", "4096", 32),
    ("randread_4k_qd1", "randread", "4096", 1),
    ("randread_4k_qd32", "randread", "4096", 32),
    ("write_256k_qd8", "write", "262144", 8),
    ("read_256k_qd8", "read", "262144", 8),
)


def run_case(pair, url, pids, case, seconds, *extra):
    _, pattern, size, depth = case
    argv = [pair.program("duet-io"), "--pattern", pattern, "--size", size, "--depth", str(depth),
            "--seconds", str(seconds), "--span", f"{SPAN_MIB}MiB", *extra]
    for pid in pids:
        argv += ["--server-pid", str(pid)]
    done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=60 + 4 * seconds,
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"duet-io on {url}: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)


def measure(rounds, seconds):
    """{(target, case): {field: median}}"""
    results = {}
    with pair_module.Pair() as pair:
        pair.start()
        url = pair.create_lun("red", "bench", "512MiB")
        tgt = tgt_module.Tgt(pair, SPAN_MIB << 20)
        targets = (("duet", url, pair.server_pids()), ("tgt_shm", tgt.url(1), tgt.pids()),
                   ("tgt_sync", tgt.url(2), tgt.pids()))
        for _, target_url, _ in targets:  # every block written once before anything is measured
            run_case(pair, target_url, (), CASES[4], 0.1, "--fill")
        for number in range(rounds):
            for case in CASES:
                for name, target_url, pids in targets:
                    result = run_case(pair, target_url, pids, case, seconds)
                    results.setdefault((name, case[0]), []).append(result)
            print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
        if not pair_module.is_healthy(pair.red.status()):
            raise RuntimeError("the pair did not stay mirrored: the figures mean nothing")
    return {key: {field: statistics.median(r[field] for r in values)
                  for field in ("iops", "mb_per_s", "p50_us", "p99_us", "client_cpu_us", "server_cpu_us")}
            for key, values in results.items()}


def table(results):
    lines = [f"{'case':<18} {'target':<9} {'IOPS':>8} {'MB/s':>7} {'p50 us':>8} {'p99 us':>8} "
             f"{'client us/op':>12} {'server us/op':>12} {'duet is':>8}"]
    for case in CASES:
        duet = results["duet", case[0]]
        for name in ("duet", "tgt_shm", "tgt_sync"):
            r = results[name, case[0]]
            ratio = "" if name == "duet" else f"{duet['iops'] / r['iops']:>7.2f}x"
            lines.append(f"{case[0]:<18} {name:<9} {r['iops']:>8.0f} {r['mb_per_s']:>7.1f} "
                         f"{r['p50_us']:>8.1f} {r['p99_us']:>8.1f} {r['client_cpu_us']:>12.2f} "
                         f"{r['server_cpu_us']:>12.2f} {ratio}")
    return "\n".join(lines)


def as_figures(results):
    out = []
    for case in CASES:
        duet = results["duet", case[0]]
        out.append(figures.figure(f"{case[0]}_iops", round(duet["iops"]), "1/s"))
        out.append(figures.figure(f"{case[0]}_p50", round(duet["p50_us"], 1), "us"))
        out.append(figures.figure(f"{case[0]}_p99", round(duet["p99_us"], 1), "us"))
        out.append(figures.figure(f"{case[0]}_server_cpu", round(duet["server_cpu_us"], 2), "us"))
        for name in ("tgt_shm", "tgt_sync"):
            other = results[name, case[0]]
            out.append(figures.figure(f"{case[0]}_iops_to_{name}",
                                      round(duet["iops"] / other["iops"], 3), ""))
            if other["server_cpu_us"]:
                out.append(figures.figure(
                    f"{case[0]}_server_cpu_to_{name}",
                    round(duet["server_cpu_us"] / other["server_cpu_us"], 2), ""))
    return out


def main():
    parser = argparse.ArgumentParser(prog="./dev bench io", description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    arguments = parser.parse_args()
    pair_module.exit_on_signals()
    results = measure(arguments.rounds, arguments.seconds)
    print(table(results))
    if arguments.json:
        figures.write(arguments.json, as_figures(results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
