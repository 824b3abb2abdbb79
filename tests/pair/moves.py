"""The moves of an identity between the nodes: something fails, the partner takes over, and gives back.

Each function does the whole round under a running load and returns a Move. They wait for events, never
for time; only the node that stands still does so for a given time, as that is its fault.
"""

import dataclasses
import time

import pair as pair_module

# Phase words of events that belong into a timeline.
TIMELINE = ("partner.", "takeover.", "boot.", "giveback.", "node.", "durability.", "engine.")


@dataclasses.dataclass
class Move:
    kind: str
    t0: int  # CLOCK_BOOTTIME of the fault, ns
    takeover_pause_ms: float = 0
    giveback_pause_ms: float = 0
    takeover_pauses: list = dataclasses.field(default_factory=list)  # by LUN, ms
    giveback_pauses: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)  # (t, text): what we did
    events: list = dataclasses.field(default_factory=list)

    def note(self, t, text):
        self.notes.append((t, text))


def _taken_over(pair, load, move, survivor):
    serving = pair.wait_event("takeover.serving", move.t0, 20, survivor.name)
    load.wait_flowing(serving.t, 10 * pair.scale)
    window = load.mark(f"{move.kind}: return")
    move.takeover_pause_ms, move.takeover_pauses = window["pause_ms"], window["luns"]


def _give_back(pair, load, move, victim, survivor):
    """Waits until the repaired node is ready for it, gives back, waits for the mirror."""
    survivor.wait_status(lambda s: s["giveback"]["possible"], 30, f"can give back to {victim.name}")
    load.mark(f"{move.kind}: giveback")
    t = pair_module.boottime_ns()
    move.note(t, f"operator: duet giveback {victim.name}")
    survivor.must("giveback", victim.name)
    up = pair.wait_event("node.up", t, 20, victim.name)
    load.wait_flowing(up.t, 10 * pair.scale)
    window = load.mark("quiet")
    move.giveback_pause_ms, move.giveback_pauses = window["pause_ms"], window["luns"]
    pair.wait_healthy()
    move.events = [e for e in pair.events.since(move.t0) if e.phase.startswith(TIMELINE)]
    return move


def engine_panic(pair, load, victim):
    survivor = pair.partner_of(victim)
    load.mark("panic: takeover")
    move = Move("panic", victim.crash_engine())
    move.note(move.t0, f"fault: SIGABRT to the engine of {victim.name}")
    _taken_over(pair, load, move, survivor)
    return _give_back(pair, load, move, victim, survivor)


def node_killed(pair, load, victim):
    survivor = pair.partner_of(victim)
    load.mark("killed: takeover")
    move = Move("killed", victim.kill())
    move.note(move.t0, f"fault: SIGKILL to both processes of {victim.name}")
    _taken_over(pair, load, move, survivor)
    move.note(pair_module.boottime_ns(), f"operator: {victim.name} is switched on again")
    victim.start()
    return _give_back(pair, load, move, victim, survivor)


def node_stopped(pair, load, victim, seconds=10):
    survivor = pair.partner_of(victim)
    load.mark("stopped: takeover")
    move = Move("stopped", victim.stop())
    move.note(move.t0, f"fault: SIGSTOP to both processes of {victim.name}")
    _taken_over(pair, load, move, survivor)
    left = seconds - (pair_module.boottime_ns() - move.t0) / 1e9
    time.sleep(max(left, 0))
    t = victim.resume()
    move.note(t, f"SIGCONT: {victim.name} goes on as if nothing had happened")
    pair.wait_event("node.fenced", t, 20, victim.name)
    return _give_back(pair, load, move, victim, survivor)
