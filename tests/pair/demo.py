#!/usr/bin/python3
"""./dev demo [--keep]: a complete pair at work on this machine, while its nodes fail.

Exit code 0 only if no acknowledged write was lost, nothing was misread, and every move came home.
"""

import argparse
import sys
import time

import load as load_module
import moves
import pair as pair_module

BOLD, DIM, GREEN, RED, END = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m")
if not sys.stdout.isatty():
    BOLD = DIM = GREEN = RED = END = ""


def say(text=""):
    print(text, flush=True)


def heading(text):
    say(f"\n{BOLD}{text}{END}")


def timeline(move, load):
    """What happened, in ms since the fault: orders and events of both nodes, pauses of the clients."""
    rows = [(t, "", text) for t, text in move.notes]
    rows += [(e.t, e.node, f"{e.phase:<26} {e.text}") for e in move.events]
    rows += [(gap["start"], f"LUN {gap['lun']}", f"clients wait {gap['ms']:.0f} ms from here")
             for gap in load.events("gap") if gap["start"] >= move.t0 - 100_000_000 and gap["ms"] >= 30]
    previous = None
    for t, who, text in sorted(rows):
        since = (t - move.t0) / 1e6
        step = "" if previous is None else f"+{(t - previous) / 1e6:.1f}"
        previous = t
        order = not who
        say(f"  {since:>9.1f} ms {DIM}{step:>9}{END}  {BOLD if order else ''}{who:<6} {text[:110]}"
            f"{END if order else ''}")


def pauses(move):
    luns = ("red", "blue")
    def each(values):
        return ", ".join(f"LUN of {n} {v:.0f} ms" for n, v in zip(luns, values))
    say(f"  {GREEN}longest client pause: takeover {move.takeover_pause_ms:.0f} ms{END} "
        f"({each(move.takeover_pauses)}); "
        f"{GREEN}giveback {move.giveback_pause_ms:.0f} ms{END} ({each(move.giveback_pauses)})")


def show_addresses(pair):
    for name in pair_module.NODES:
        node = pair.nodes[name]
        say(f"  {name:<5} serves {node.iqn} at {node.service_address}:{pair_module.ISCSI_PORT}")


def run_moves(pair, load):
    done = []
    red = pair.red
    for title, act in (
            ("1. The engine of red panics", lambda: moves.engine_panic(pair, load, red)),
            ("2. Red dies: both processes are killed", lambda: moves.node_killed(pair, load, red)),
            ("3. Red stands still for 10 s, and wakes up not knowing it",
             lambda: moves.node_stopped(pair, load, red, 10))):
        heading(title)
        done.append(act())
        timeline(done[-1], load)
        pauses(done[-1])
    return done


def verdict(summary, done):
    heading("Result")
    say(f"  {summary['ops']} reads and writes, {summary['verified']} acknowledged blocks read back at "
        f"the end")
    for move in done:
        say(f"  {move.kind:<8} takeover {move.takeover_pause_ms:>6.0f} ms   giveback "
            f"{move.giveback_pause_ms:>6.0f} ms   (longest client pause)")
    good = True
    for name, text in (("lost", "lost acknowledged writes"), ("bad_reads", "bad reads"),
                       ("hard_errors", "I/O errors a client would have seen"),
                       ("unverified", "acknowledged blocks that could not be read")):
        value = summary[name]
        good = good and value == 0
        if value or name == "lost":
            say(f"  {GREEN if value == 0 else RED}{text}: {value}{END}")
    return good


def how_to_connect(pair, urls, record):
    red = pair.red
    portal = f"{red.service_address}:{pair_module.ISCSI_PORT}"
    heading("The pair goes on running")
    for name in pair_module.NODES:
        say(f"  {name:<5} {pair.program('duet')} --config {pair.nodes[name].config} status")
    say("        also takeover, giveback, halt, events -f, lun, disk: docs/cli.md")
    say(f"""
  iscsi-ls    iscsi-ls -s iscsi://{portal}
  qemu-io     qemu-io -f raw -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' {urls[0]}
  Linux       iscsiadm -m discovery -t sendtargets -p {portal}
              iscsiadm -m node -T {red.iqn} -p {portal} --login
              (open-iscsi; on this machine, as the addresses are loopback ones)
  logs        {pair.directory}

  {BOLD}stop it     ./dev demo --stop {record}{END}""")


def main():
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the pair running")
    parser.add_argument("--stop", metavar="FILE", help="end a pair that was kept")
    arguments = parser.parse_args()
    if arguments.stop:
        pair_module.stop_kept(arguments.stop)
        say("stopped")
        return 0
    pair_module.exit_on_signals()
    started = time.monotonic()
    with pair_module.Pair(keep=arguments.keep) as pair:
        say(f"{BOLD}Duet: two nodes, two shelves, one LUN each, on {pair.network}.0/24{END}")
        say("NVRAM is in /dev/shm here, that is: VOLATILE. It survives what this demo does to the nodes,\n"
            "but not a power loss of this machine; real nodes have persistent memory.")
        heading("Bring-up")
        pair.start()
        urls = [pair.create_lun(name, f"{name}-lun") for name in pair_module.NODES]
        say(f"  both nodes up and mirrored after {time.monotonic() - started:.1f} s")
        show_addresses(pair)
        with_load = moves_under_load(pair, urls)
        if arguments.keep and with_load:
            record = pair.detach()
            how_to_connect(pair, urls, record)
        say(f"\n{time.monotonic() - started:.0f} s in all")
        return 0 if with_load else 1


def moves_under_load(pair, urls):
    with load_module.Load(pair, urls) as load:
        say("  load: a stamped 4 KiB write and its read-back every 5 ms on each LUN")
        done = run_moves(pair, load)
        return verdict(load.stop(), done) and load.exit_code == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, TimeoutError, FileNotFoundError) as e:
        say(f"\n{RED}demo failed: {e}{END}")
        sys.exit(1)
