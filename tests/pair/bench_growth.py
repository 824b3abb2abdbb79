"""How the pause of a takeover grows: with the LUNs of an identity, and with what is in its log."""

import statistics
import subprocess
import sys

import figures
import load as load_module
import moves
import pair as pair_module

LUNS = (1, 100, 1000)
NVRAM = ("64MiB", "1GiB")
KINDS = (("planned", moves.planned), ("panic", moves.engine_panic))
# MiB to write for a log that is full: of 32 MiB to four fifths, as clients wait beyond that; of 512 MiB as
# much as the memory for changes (256 MiB) lets in before a consistency point has to end.
FULL = {"64MiB": 26, "1GiB": 230}


def _rows(name, rows):
    """Table and figures of {label: {column: [ms]}}."""
    columns = list(next(iter(rows.values())))
    lines = [f"{name:<22}" + "".join(f"{c:>22}" for c in columns)]
    out = []
    for label, cells in rows.items():
        line = f"{label:<22}"
        for column, values in cells.items():
            median = statistics.median(values)
            line += f"{median:>12.1f} (max {max(values):>4.0f})" if len(values) > 1 else f"{median:>22.1f}"
            key = f"{column}_{label}".replace(" ", "_").replace(",", "")
            out.append(figures.figure(key, round(median, 1), "ms"))
        lines.append(line)
    return "\n".join(lines) + "\n", out


def luns(repeat):
    """Pause in ms of takeover and giveback, with the load on the first and the last of N LUNs."""
    rows = {}
    for count in LUNS:
        with pair_module.Pair(disk_size="4G") as pair:
            pair.start()
            urls = [pair.create_lun("red", f"lun-{i}", "1MiB") if i in (0, count - 1) else
                    pair.red.must("lun", "create", f"lun-{i}", "1MiB") for i in range(count)]
            cells = {}
            with load_module.Load(pair, sorted({urls[0], urls[-1]})) as load:
                for _ in range(repeat):
                    for kind, act in KINDS:
                        move = act(pair, load, pair.red)
                        cells.setdefault(f"{kind} takeover", []).append(move.takeover_pause_ms)
                        cells.setdefault("giveback", []).append(move.giveback_pause_ms)
                load.stop()
            rows[f"{count} LUNs"] = cells
            print(f"{count} LUNs: {cells}", file=sys.stderr, flush=True)
    return _rows("pause, ms", rows)


class Fill:
    """Writes into the log of red what stays there: no consistency point ends while a disk is so slow."""

    def __init__(self, pair, url, nvram):
        self.shelf = pair.shelves["red"]
        self.shelf.command("slow 3 4000")  # carries data only, so nobody notices
        argv = ["qemu-io", "-f", "raw", "-t", "none"]
        for at in range(FULL[nvram]):
            argv += ["-c", f"write {at}M 1M"]
        subprocess.run([*argv, url], check=True, timeout=120, capture_output=True,
                       stdin=subprocess.DEVNULL)

    def let_go(self):
        self.shelf.command("heal all")


def log(repeat):
    """Pause of a takeover by panic and by order with nothing in the log, and with as much as it takes."""
    rows = {}
    for size in NVRAM:
        overrides = {"nvram.size": f'"{size}"', "engine.cache": '"256MiB"'}
        with pair_module.Pair(overrides=overrides, disk_size="4G") as pair:
            pair.start()
            fill_url = pair.create_lun("red", "fill", "4GiB")
            urls = [pair.create_lun("red", "watched", "64MiB")]
            # Of its first extent only, which is not on the slow disk.
            with load_module.Load(pair, urls, extra=("--blocks", "512")) as load:
                for state in ("empty", "full"):
                    cells = {}
                    for _ in range(repeat):
                        for kind, act in KINDS:
                            let_go = Fill(pair, fill_url, size).let_go if state == "full" else lambda: None
                            move = act(pair, load, pair.red, let_go)
                            cells.setdefault(f"{kind} takeover", []).append(move.takeover_pause_ms)
                    label = f"{size}, {FULL[size] if state == 'full' else 0} MiB in log"
                    rows[label] = cells
                    print(f"{label}: {cells}", file=sys.stderr, flush=True)
                load.stop()
    return _rows("pause, ms", rows)
