"""How the pause of a takeover grows: with the LUNs of an identity, and with what is in its log."""

import statistics
import subprocess
import sys

import figures
import load as load_module
import moves
import pair as pair_module
import processes

LUNS = (1, 100, 1000)
NVRAM = ("64MiB", "1GiB")
KINDS = (("planned", moves.planned), ("panic", moves.engine_panic))
FULL = 0.85  # of what the log takes while no consistency point can end
FILL_LIMIT = 60  # s


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
    """Fills the log of red: its consistency points cannot end while one of its disks hangs."""

    def __init__(self, pair, url):
        self.pair = pair
        self.shelf = pair.shelves["red"]
        self.shelf.command("hang 3")  # carries data only, so nobody notices
        self.process = processes.Process(
            [pair.program("duet-io"), "--pattern", "write", "--size", "262144", "--depth", "8",
             "--warm-up", "0", "--seconds", str(FILL_LIMIT), url], stdout=subprocess.DEVNULL,
            log=pair.directory / "fill.log")

    def wait(self):
        """Until it is as full as it gets. Returns the bytes in the log."""
        level = [0]

        def full():
            own = pair_module.identity(self.pair.red.status(), "red")
            stands = own["log_used"] == level[0] and level[0] > 1 << 20
            level[0] = own["log_used"]
            return stands or level[0] > FULL * own["log_size"]
        processes.wait_until(full, FILL_LIMIT, "the log fills", interval=0.2)
        self.process.end()
        return level[0]

    def let_go(self):
        self.shelf.command("heal all")


def log(repeat):
    """Pause of a takeover by panic and by order with nothing in the log, and with as much as it takes."""
    rows, out = {}, []
    for size in NVRAM:
        overrides = {"nvram.size": f'"{size}"', "engine.cache": '"256MiB"'}
        with pair_module.Pair(overrides=overrides, disk_size="4G") as pair:
            pair.start()
            fill_url = pair.create_lun("red", "fill", "4GiB")
            urls = [pair.create_lun("red", "watched", "64MiB")]
            with load_module.Load(pair, urls) as load:
                for state in ("empty", "full"):
                    cells, level = {}, 0
                    for _ in range(repeat):
                        for kind, act in KINDS:
                            move, level = _one(pair, load, act, fill_url if state == "full" else None)
                            cells.setdefault(f"{kind} takeover", []).append(move.takeover_pause_ms)
                    label = f"NVRAM {size} {state}" + (f" {level >> 20} MiB" if level else "")
                    rows[label] = cells
                    print(f"{label}: {cells}", file=sys.stderr, flush=True)
                load.stop()
    table, out = _rows("pause, ms", rows)
    return table, out


def _one(pair, load, act, fill_url):
    if not fill_url:
        return act(pair, load, pair.red), 0
    fill = Fill(pair, fill_url)
    level = fill.wait()
    return act(pair, load, pair.red, fill.let_go), level
