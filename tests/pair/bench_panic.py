#!/usr/bin/python3
"""./dev bench panic: what a dump costs clients, and how fast it is.

Red's engine, with a full block cache, panics while a client writes and reads back 4 KiB every 5 ms: without a
dump, with one, with one that includes the cache, and with that to a slow disk, in turns; medians. Default timers but
for the time limit.

pause        longest gap between completions, from the panic until blue serves, as in bench failover
serial       how long it would be if the takeover waited for the dump: pause without + time of the dump, by sum
rate ratio   stored bytes of the dump by its time, from `active` to the last header, over the same number of
             them written by the same disk adapter to a disk of the same kind (file of a shelf on the same file
             system, fdatasync at the end), 2 writes of 1 MiB in flight, right after the dump; both files were
             written once before. In the figure of the core, bytes of memory by the same time instead of stored bytes: above 1
             the dump is over before its memory could be written as it is
slow disk    each write is held 4 ms before it is begun: a disk like many, which the file of a shelf is not. The file takes
             as much as the processors give it, so that a dump on the same ones makes it slower

--quick: a cache of 256 MiB instead of 8 GiB, fewer rounds.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

import figures
import load as load_module
import pair as pair_module
import panics
import processes

MiB = 1 << 20
CACHE = {"coredump.include_cache": "true"}
MODES = {"without": {"coredump.enabled": "false"}, "with": {}, "cache": CACHE, "slow": CACHE}
SLOW_MS = 4  # each write to the disk of the dump is held so long, in the mode of that name
LIMIT_S = 600  # so that what is measured is a whole dump
FULL = 0.97  # of the cache's size, in the engine's marked memory


def say(text):
    print(text, file=sys.stderr, flush=True)


def shelf_disk(pair, size, written):
    """One more shelf, with one disk, for what is written beside the dump."""
    shelf = pair_module.Shelf(pair, "beside", 4)
    shelf.DISKS = 1
    shelf.OPTIONS = pair.shelves["red"].OPTIONS
    write_front(shelf.disk_file(0), written, size)
    shelf.start()
    return shelf


def write_front(image, mib, size):
    """A disk's image whose front has its place on the file system: a disk does not look for one when written."""
    image.parent.mkdir(exist_ok=True)
    with open(image, "wb") as f:
        for _ in range(mib):
            f.write(bytes(MiB))
        f.flush()
        os.fdatasync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        f.truncate(size * MiB)


def marked_bytes(pid):
    """Resident bytes of a process that no core of it holds."""
    total = resident = 0
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            key, _, rest = line.partition(" ")
            if key == "Rss:":
                resident = int(rest.split()[0]) << 10
            elif key == "VmFlags:" and "dd" in rest.split() and "sh" not in rest.split():
                total += resident
    return total


class Bench:
    def __init__(self, cache_mib, rounds):
        self.cache_mib, self.rounds = cache_mib, rounds
        self.samples = {mode: {} for mode in MODES}  # {mode: {what: [value]}}
        self.lost = 0

    def run(self):
        overrides = {"coredump.test_panics": "true", "coredump.limit_ms": LIMIT_S * 1000, "coredump.keep": 0}
        with pair_module.Pair(overrides=overrides) as pair, contextlib.ExitStack() as stack:
            for shelf in pair.shelves.values():
                shelf.OPTIONS = ("--sync", "--wce")
            size = self.cache_mib * 5 // 4 + 1024
            disk, written = f"{size}M", self.cache_mib * 3 // 4 + 256
            write_front(pair.shelves["red"].disk_file(panics.DUMP_DISK), written, size)
            panics.bring_up(pair, disk, disk, self.red_config("without"))
            filler = pair.create_lun("red", "filler", f"{self.cache_mib * 21 // 20}MiB")
            self.read(pair, filler, 0.1, "--fill-half-random")
            beside = shelf_disk(pair, size, written)
            load = stack.enter_context(load_module.Load(pair, [pair.create_lun("red", "load", "64MiB")]))
            modes = [mode for _ in range(self.rounds) for mode in MODES]
            for mode, following in zip(modes, [*modes[1:], "without"]):
                self.fill_cache(pair, filler)
                self.one(pair, load, mode, beside)
                self.come_home(pair, load, following)
            self.lost = load.stop()["lost"]
            return load.exit_code == 0

    def red_config(self, mode):
        return {"engine.cache": f'"{self.cache_mib}MiB"'} | MODES[mode]

    def read(self, pair, url, seconds, *extra):
        """From the front on. Of larger reads the cache keeps nothing."""
        done = subprocess.run([pair.program("duet-io"), "--pattern", "read", "--size", "65536", "--depth", "16",
                               "--warm-up", "0", "--seconds", str(seconds), *extra, url],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False)
        if done.returncode:
            raise RuntimeError(f"duet-io: {done.stderr}")

    def fill_cache(self, pair, url):
        pid = pair.red.engine_pid()
        for attempt in range(10):
            if marked_bytes(pid) >= FULL * self.cache_mib * MiB:
                return
            self.read(pair, url, (attempt + 1) * (self.cache_mib / 500 + 1))
        raise RuntimeError(f"the cache is not full: {marked_bytes(pid) // MiB} of {self.cache_mib} MiB")

    def one(self, pair, load, mode, beside):
        panics.wait_dump_disk_known(pair)
        disks = ((pair.shelves["red"], panics.DUMP_DISK), (beside, 0))
        for shelf, disk in disks:
            answer = shelf.command(f"slow {disk} {SLOW_MS}" if mode == "slow" else f"heal {disk}")
            if not answer.startswith("ok"):
                raise RuntimeError(f"duet-shelf: {answer}")
        load.mark("panic")
        t = processes.boottime_ns()
        pair.red.must("core", "trigger", "red")
        serving = pair.wait_event("takeover.serving", t, 60, "blue")
        load.wait_flowing(serving.t, 60)
        self.note(mode, "pause_ms", load.mark("after")["pause_ms"])
        pair.wait_event("node.reboot", t, LIMIT_S, "red")
        text = f"pause {self.samples[mode]['pause_ms'][-1]:.1f} ms"
        if mode != "without":
            text += ", " + self.dumped(pair, mode, t, beside)
        say(f"{len(self.samples[mode]['pause_ms']):>3} {mode:<8} {text}")

    def dumped(self, pair, mode, t, beside):
        said = [e for e in pair.events.since(t) if e.phase in ("node.dumped", "node.dump_failed")]
        if [e.phase for e in said] != ["node.dumped"]:
            raise RuntimeError(f"not dumped: {said}")
        header = panics.read_dump(pair)
        stored, ms = header["stored_bytes"], header["elapsed_ms"]
        done = subprocess.run([pair.program("dump_writer"), f"{beside.hosts['red']}:{pair_module.ISCSI_PORT}",
                               beside.iqn, pair.shelves["red"].disk_file(panics.DUMP_DISK), str(stored)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        beside_ms = json.loads(done.stdout)["ms"]
        for what, value in (("core_mib", header["core_bytes"] / MiB), ("stored_mib", stored / MiB), ("dump_ms", ms),
                            ("dump_mib_s", stored / MiB / ms * 1000), ("disk_mib_s", stored / MiB / beside_ms * 1000),
                            ("rate_ratio", beside_ms / ms),
                            ("core_ratio", header["core_bytes"] / stored * beside_ms / ms)):
            self.note(mode, what, value)
        return f"core {header['core_bytes'] / MiB:.0f} MiB, stored {stored / MiB:.0f} MiB in {ms} ms, beside {beside_ms:.0f} ms"

    def come_home(self, pair, load, mode):
        """Red boots, with the configuration of the next mode."""
        pair.red.kill()
        pair.red.write_config(pair.secret, self.red_config(mode))
        pair.red.start()
        # What blue says before may be of the boot that was just ended.
        pair.red.wait_status(lambda s: s["state"] == "mbwait", 60, "waits for its giveback")
        pair.blue.wait_status(lambda s: s["giveback"]["possible"], 60, "can give back to red")
        t = processes.boottime_ns()
        pair.blue.must("giveback", "red")
        up = pair.wait_event("node.up", t, 60, "red")
        load.wait_flowing(up.t, 30)
        pair.wait_healthy(60)

    def note(self, mode, what, value):
        self.samples[mode].setdefault(what, []).append(value)

    def median(self, mode, what):
        return statistics.median(self.samples[mode][what])

    def figures(self):
        pauses = {mode: self.median(mode, "pause_ms") for mode in MODES}
        serial = pauses["without"] + self.median("with", "dump_ms")
        serial_cache = pauses["without"] + self.median("cache", "dump_ms")
        f = figures.figure
        return [
            f("cache_size", self.cache_mib, "MiB"),
            f("pause_without_dump", round(pauses["without"], 1), "ms"),
            f("pause_with_dump", round(pauses["with"], 1), "ms"),
            f("pause_with_cache_in_dump", round(pauses["cache"], 1), "ms"),
            f("pause_with_dump_over_without", round(pauses["with"] / pauses["without"], 3), "x", 1.1),
            f("pause_with_cache_in_dump_over_without", round(pauses["cache"] / pauses["without"], 3), "x"),
            f("pause_with_slow_dump_over_without", round(pauses["slow"] / pauses["without"], 3), "x"),
            f("pause_if_serial", round(serial, 1), "ms"),
            f("serial_over_pause_with_dump", round(serial / pauses["with"], 2), "x"),
            f("serial_over_pause_with_cache_in_dump", round(serial_cache / pauses["cache"], 1), "x"),
            f("core_without_cache", round(self.median("with", "core_mib"), 1), "MiB"),
            f("core_with_cache", round(self.median("cache", "core_mib"), 1), "MiB"),
            f("stored_without_cache", round(self.median("with", "stored_mib"), 1), "MiB"),
            f("stored_with_cache", round(self.median("cache", "stored_mib"), 1), "MiB"),
            f("dump_time_without_cache", round(self.median("with", "dump_ms")), "ms"),
            f("dump_time_with_cache", round(self.median("cache", "dump_ms")), "ms"),
            f("dump_rate_with_cache", round(self.median("cache", "dump_mib_s")), "MiB/s"),
            f("disk_rate", round(self.median("cache", "disk_mib_s")), "MiB/s"),
            f("dump_rate_over_disk", round(self.median("cache", "rate_ratio"), 3), "x", at_least=0.8),
            f("slow_disk_rate", round(self.median("slow", "disk_mib_s")), "MiB/s"),
            f("dump_rate_over_slow_disk", round(self.median("slow", "rate_ratio"), 3), "x", at_least=0.8),
            f("core_rate_over_slow_disk", round(self.median("slow", "core_ratio"), 3), "x"),
            f("core_rate_over_disk", round(self.median("cache", "core_ratio"), 3), "x"),
            f("dump_rate_over_disk_without_cache", round(self.median("with", "rate_ratio"), 3), "x"),
            f("lost_acknowledged_writes", self.lost, "", 0),
        ]


def main():
    parser = argparse.ArgumentParser(prog="./dev bench panic", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, help="panics of each kind (5; quick: 3)")
    parser.add_argument("--cache-mib", type=int, help="of red's engine (8192; quick: 256)")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    pair_module.exit_on_signals()
    bench = Bench(arguments.cache_mib or (256 if arguments.quick else 8192),
                  arguments.rounds or (3 if arguments.quick else 5))
    clean = bench.run()
    result = bench.figures()
    print(figures.table(result))
    if arguments.json:
        figures.write(arguments.json, result)
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
