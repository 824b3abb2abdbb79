"""The moves of an identity between the nodes: something fails, the partner takes over, and gives back.

Each function does the whole round under a running load and returns a Move. They wait for events, never
for time; only the node that stands still does so for a given time, as that is its fault.
"""

import dataclasses
import time

import pair as pair_module

# Phase words of events that belong into a timeline.
TIMELINE = ("partner.", "takeover.", "boot.", "giveback.", "node.", "durability.", "engine.",
            "departure.", "handover.", "release.", "replay.")


@dataclasses.dataclass
class Move:
    kind: str
    t0: int  # CLOCK_BOOTTIME of the fault, ns
    giveback_t: int = 0  # of the order to give back
    takeover_pause_ms: float = 0
    giveback_pause_ms: float = 0
    takeover_pauses: list = dataclasses.field(default_factory=list)  # by LUN, ms
    giveback_pauses: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)  # (t, text): what we did
    events: list = dataclasses.field(default_factory=list)

    def note(self, t, text):
        self.notes.append((t, text))

    def after(self, t, phase):
        """ms from t to the first event of that phase at or after it, or None."""
        return next(((e.t - t) / 1e6 for e in self.events if e.t >= t and e.phase == phase), None)


def _taken_over(pair, load, move, survivor):
    serving = pair.wait_event("takeover.serving", move.t0, 20, survivor.name)
    load.wait_flowing(serving.t, 10 * pair.scale)
    window = load.mark(f"{move.kind}: return")
    move.takeover_pause_ms, move.takeover_pauses = window["pause_ms"], window["luns"]


def _ready_for_giveback(victim, survivor):
    """A node that an order has halted is switched on again."""
    def ready(report):
        if not victim.process.running():
            victim.start()
        return report["giveback"]["possible"]
    survivor.wait_status(ready, 30, f"can give back to {victim.name}")


def _give_back(pair, load, move, victim, survivor):
    """Waits until the repaired node is ready for it, gives back, waits for the mirror."""
    _ready_for_giveback(victim, survivor)
    load.mark(f"{move.kind}: giveback")
    t = move.giveback_t = pair_module.boottime_ns()
    move.note(t, f"operator: duet giveback {victim.name}")
    survivor.must("giveback", victim.name)
    up = pair.wait_event("node.up", t, 20, victim.name)
    load.wait_flowing(up.t, 10 * pair.scale)
    window = load.mark("quiet")
    move.giveback_pause_ms, move.giveback_pauses = window["pause_ms"], window["luns"]
    pair.wait_healthy()
    move.events = [e for e in pair.events.since(move.t0) if e.phase.startswith(TIMELINE)]
    return move


def planned(pair, load, victim, at_fault=lambda: None):
    survivor = pair.partner_of(victim)
    load.mark("planned: takeover")
    at_fault()
    move = Move("planned", pair_module.boottime_ns())
    move.note(move.t0, f"operator: duet takeover {victim.name}")
    survivor.must("takeover", victim.name)
    _taken_over(pair, load, move, survivor)
    return _give_back(pair, load, move, victim, survivor)


def engine_panic(pair, load, victim, at_fault=lambda: None):
    survivor = pair.partner_of(victim)
    load.mark("panic: takeover")
    move = Move("panic", victim.crash_engine())
    at_fault()
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


def uncoordinated(pair, load, victim, boot_seconds):
    """The way it is not done: first the giveback, to a node that is down, and then its boot. None if the
    command does not know it. The pause is that of the giveback."""
    survivor = pair.partner_of(victim)
    load.mark("uncoordinated: takeover")
    move = Move("uncoordinated", victim.kill())
    _taken_over(pair, load, move, survivor)
    load.mark("uncoordinated: giveback")
    t = pair_module.boottime_ns()
    move.note(t, f"operator: duet giveback {victim.name} --uncoordinated")
    # It ends when the partner serves, which has yet to boot.
    code, _, error = survivor.duet("giveback", victim.name, "--uncoordinated", "--wait", "1")
    if code in (0, 4):
        time.sleep(max(boot_seconds - (pair_module.boottime_ns() - t) / 1e9, 0))  # it boots
    elif code != 2:
        raise RuntimeError(f"giveback --uncoordinated: {code}: {error}")
    victim.start()
    if code == 2:
        _give_back(pair, load, move, victim, survivor)
        return None
    up = pair.wait_event("node.up", t, 40, victim.name)
    load.wait_flowing(up.t, 10 * pair.scale)
    move.giveback_pause_ms = load.mark("quiet")["pause_ms"]
    pair.wait_healthy()
    move.events = pair.events.since(move.t0)
    return move
