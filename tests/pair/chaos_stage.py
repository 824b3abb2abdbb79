"""Performs the steps of a round of chaos on a pair, and repairs afterwards what they broke.

    kill NODE engine|duetd|both, abort NODE     SIGKILL, or SIGABRT to the engine
    stop NODE engine|duetd|both, cont NODE      SIGSTOP, SIGCONT
    start NODE, wipe NODE                       a node that is down: switched on; its NVRAM is gone
    cut [control|mirror] [from NODE], delay S, reset, heal link
    shelf OWNER COMMAND...                      docs/protocols/shelf_control.md
    cut-path NODE OWNER, stop-shelf OWNER, heal shelf OWNER, restart-shelf OWNER
    burn N, heal burn                           so many programs that want a processor for themselves
    order NODE ARGUMENTS..., begin NODE ...     the duet command: waits for its end, or does not
    wait S, await NODE PHASE S                  the event, but at most so long
    served                                      every LUN answers again
    can-give-back NODE
"""

import os
import signal
import threading
import time

import forwarder
import pair as pair_module
import processes

SERVED_LIMIT = 40  # s until clients are served, whoever fails; the cold start wait of 10 s included
ORDER_LIMIT = 30
FINE = (0, 3, 4)  # exit codes of duet: done, refused, the wait ran out
PORTS = {"control": pair_module.INTERCONNECT_PORT, "mirror": pair_module.MIRROR_PORT}


class Unclean(Exception):
    """Something that must never happen did."""


class Stage:
    def __init__(self, pair, load):
        self.pair = pair
        self.load = load
        self.began = pair_module.boottime_ns()  # of the round
        self.down = set()       # nodes that we ended
        self.stopped = {}       # node: pids
        self.touched = set()    # nodes whose processes got a signal from us in this round
        self.notes = []         # of this round
        self._orders = []
        self._burners = []

    def begin_round(self):
        self.began = pair_module.boottime_ns()
        self.notes = []
        self.touched = set()

    def perform(self, step):
        verb, *words = step.split()
        getattr(self, "do_" + verb.replace("-", "_"))(*words)

    def note(self, text):
        self.notes.append(text)

    # ---- nodes ----

    def _pids(self, name, part):
        process = self.pair.nodes[name].process
        if not process.running():
            return []
        family = process.family()
        return {"both": family, "duetd": family[:1], "engine": family[1:]}[part]

    def _signal(self, name, part, number):
        pids = self._pids(name, part)
        self.touched.add(name)
        if not pids:
            self.note(f"no {part} of {name} to signal")
        for pid in pids:
            processes.send(pid, number)
        return pids

    def do_kill(self, name, part):
        self._signal(name, part, signal.SIGKILL)
        if part != "engine" and name not in self.down:
            self.pair.events.stop(name)
            self.pair.nodes[name].process.end()  # the engine ends with its supervisor
            self.down.add(name)
            self.stopped.pop(name, None)

    def do_abort(self, name):
        self._signal(name, "engine", signal.SIGABRT)

    def do_stop(self, name, part):
        self.stopped.setdefault(name, []).extend(self._signal(name, part, signal.SIGSTOP))

    def do_cont(self, name):
        for pid in self.stopped.pop(name, []):
            processes.send(pid, signal.SIGCONT)

    def do_start(self, name):
        node = self.pair.nodes[name]
        if name in self.down and not node.process.running():
            node.start()
            self.down.discard(name)

    def do_wipe(self, name):
        os.unlink(self.pair.nodes[name].nvram)

    # ---- interconnect and shelves ----

    def do_cut(self, *words):
        port = PORTS.get(words[0]) if words else None
        source = words[words.index("from") + 1] if "from" in words else None
        # The first cable carries what blue dials to red, the second what red dials to blue.
        for cable, dialler in zip(self.pair.cables, ("blue", "red")):
            way = None if source is None else forwarder.FORTH if source == dialler else forwarder.BACK
            cable.cut(port, way)

    def do_delay(self, seconds):
        for cable in self.pair.cables:
            cable.delay(float(seconds))

    def do_reset(self):
        for cable in self.pair.cables:
            cable.reset()

    def do_heal(self, what, owner=None):
        if what == "link":
            self.do_delay(0)
            self.pair.heal_interconnect()
            return
        if what == "burn":
            for burner in self._burners:
                burner.end()
            self._burners = []
            return
        processes.send(self.pair.shelves[owner].process.pid, signal.SIGCONT)
        for command in ("heal all", "restore-path all"):
            self.do_shelf(owner, command)
        states = self.pair.shelves[owner].command("status").split()
        for number in range(pair_module.Shelf.DISKS):
            if f"disk{number}=off" in states or "power=off" in states:
                self.do_shelf(owner, f"power-on {number}")
        if "power=off" in states:
            self.do_shelf(owner, "power-on all")

    def do_shelf(self, owner, *command):
        if processes.stat_fields(self.pair.shelves[owner].process.pid)[0] == "T":
            self.note(f"the shelf of {owner} takes no command now")
            return
        answer = self.pair.shelves[owner].command(" ".join(command))
        if not answer.startswith("ok"):
            raise RuntimeError(f"shelf of {owner}: {' '.join(command)}: {answer}")

    def do_cut_path(self, name, owner):
        self.do_shelf(owner, f"cut-path {self.pair.shelves[owner].hosts[name]}:{pair_module.ISCSI_PORT}")

    def do_stop_shelf(self, owner):
        processes.send(self.pair.shelves[owner].process.pid, signal.SIGSTOP)

    def do_burn(self, number):
        self._burners += [processes.Process(["sh", "-c", "while :; do :; done"]) for _ in range(int(number))]

    def do_restart_shelf(self, owner):
        self.pair.shelves[owner].kill()
        self.pair.shelves[owner].start()

    # ---- operator ----

    def do_order(self, name, *arguments):
        if name in self.down or name in self.stopped:
            self.note(f"{name} takes no order now")
            return
        before = set(self.down)
        try:
            code, out, error = self.pair.nodes[name].duet(*arguments, timeout=ORDER_LIMIT)
        except Exception as e:  # the harness' limit
            self.note(f"duet {arguments[0]} on {name}: {type(e).__name__}")
            return
        if code == 2:
            self.note(f"duet {' '.join(arguments)}: not known")
        elif code not in FINE:
            self.note(f"duet {' '.join(arguments)} on {name}: {code}: {(error or out).strip()}")
        self._mark_halted(before)

    def do_begin(self, name, *arguments):
        thread = threading.Thread(target=self.do_order, args=(name, *arguments), daemon=True)
        thread.start()
        self._orders.append(thread)

    def _mark_halted(self, before):
        """A daemon that ended with 0 did so by order: of the operator, or of its partner's."""
        for name, node in self.pair.nodes.items():
            if name not in before and node.process.popen.poll() == 0:
                self.pair.events.stop(name)
                self.down.add(name)

    # ---- time ----

    def do_wait(self, seconds):
        time.sleep(float(seconds))

    def do_await(self, name, phase, limit):
        try:
            self.pair.events.wait(phase, self.began, float(limit), name)
        except TimeoutError:
            self.note(f"{name}: no {phase}")

    def do_served(self):
        t = pair_module.boottime_ns()
        try:
            self.load.wait_flowing(t, SERVED_LIMIT * self.pair.scale)
        except TimeoutError:
            raise Unclean(f"not every LUN is served again within {SERVED_LIMIT} s") from None

    def do_can_give_back(self, name):
        self.pair.nodes[name].wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")

    # ---- afterwards ----

    def repair(self):
        """Undoes every fault and switches on what is down."""
        for name in list(self.stopped):
            self.do_cont(name)
        self.do_heal("burn")
        self.do_heal("link")
        for owner in self.pair.shelves:
            self.do_heal("shelf", owner)
        for order in self._orders:
            order.join(ORDER_LIMIT + 10)
        self._orders = []
        self._mark_halted(self.down)
        for name in list(self.down):
            self.do_start(name)
