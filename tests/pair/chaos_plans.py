"""What happens in a round of chaos: a script of steps, drawn from (seed, round) alone.

A step is a line of words (chaos_stage.py says what each does); a script is printed with `; ` between
them, and can be run again by itself (`--script`). Faults are bounded in time, and of kinds that a pair
must survive: everything acknowledged is in two NVRAMs, and NVRAM outlives a process.
"""

import dataclasses
import random

NODES = ("red", "blue")
PARTS = ("engine", "duetd", "both")
TAKEOVER_STEPS = ("takeover.checking", "takeover.window_closed", "takeover.fenced", "takeover.marked",
                  "replay.applied", "takeover.serving")
DEPARTURE_STEPS = ("departure.handing_over", "handover.draining", "departure.handed_over")
GIVEBACK_STEPS = ("giveback.stopping", "release.draining", "giveback.mailbox_written")
BOOT_STEPS = ("boot.givewait", "boot.mbwait")


@dataclasses.dataclass
class Plan:
    kind: str
    steps: list

    def text(self):
        return "; ".join(self.steps)


class _Dice(random.Random):
    def node(self):
        return self.choice(NODES)

    def seconds(self, low, high):
        """More often short than long."""
        return round(low * (high / low) ** self.random(), 3)


def other(node):
    return NODES[1 - NODES.index(node)]


def _death(dice, node):
    """One node fails for good, until it is started again."""
    return dice.choice([[f"kill {node} engine"], [f"abort {node}"], [f"kill {node} duetd"],
                        [f"kill {node} both"]])


def _pause(dice, node, longest=20):
    return [f"stop {node} {dice.choice(PARTS)}", f"wait {dice.seconds(0.05, longest)}", f"cont {node}"]


def _link(dice):
    delay = round(dice.seconds(0.001, 0.3), 3)
    return dice.choice(["cut", "cut", "cut control", "cut mirror", f"cut from {dice.node()}",
                        f"cut control from {dice.node()}", f"cut mirror from {dice.node()}",
                        f"delay {delay}", "reset"])


def _shelf(dice, shelf):
    disk = dice.choice(["all", "0", "1", "2", "3"])
    return dice.choice([f"shelf {shelf} slow {disk} {dice.randint(5, 300)}", f"shelf {shelf} hang {disk}",
                        f"shelf {shelf} power-off all", f"shelf {shelf} power-off {disk}",
                        f"cut-path {dice.node()} {shelf}", f"stop-shelf {shelf}"])


def node_dies(dice):
    node = dice.node()
    return [*_death(dice, node), "served", f"wait {dice.seconds(0.01, 3)}"]


def node_pauses(dice):
    return _pause(dice, dice.node())


def node_loses_nvram(dice):
    node = dice.node()
    return [f"kill {node} both", f"wipe {node}", "served" if dice.random() < 0.5 else f"start {node}",
            "served"]


def link_fails(dice):
    steps = []
    for _ in range(dice.choice([1, 1, 2, 5])):
        steps += [_link(dice), f"wait {dice.seconds(0.05, 6)}", "heal link"]
        steps += [f"wait {dice.seconds(0.05, 1)}"]
    return steps


def shelf_fails(dice):
    shelf = dice.node()
    return [_shelf(dice, shelf), f"wait {dice.seconds(0.1, 8)}", f"heal shelf {shelf}"]


def shelf_blinks(dice):
    shelf = dice.node()
    return [f"shelf {shelf} power-blip all" if dice.random() < 0.7 else f"restart-shelf {shelf}",
            f"wait {dice.seconds(0.05, 2)}"] * dice.choice([1, 1, 2])


def operator_moves(dice):
    node = dice.node()
    return dice.choice([
        [f"order {other(node)} takeover {node}", "served"],
        [f"order {other(node)} takeover {node} --force", "served"],
        [f"order {node} takeover --self", "served"],
        [f"order {other(node)} takeover {node} --timeout {dice.choice([1, 5])}", "served"],
        [f"begin {other(node)} takeover {node}", f"wait {dice.seconds(0.001, 0.5)}",
         f"order {other(node)} cancel", "served"],
        [f"order {node} halt {node}", "served", f"wait {dice.seconds(0.01, 2)}"],
        [f"order {node} halt {node} --no-takeover", f"wait {dice.seconds(0.01, 2)}", f"start {node}"],
        [f"begin {node} takeover {other(node)}", f"begin {other(node)} takeover {node}", "served"],
        [f"begin {node} takeover --self", f"begin {other(node)} takeover --self", "served"],
        [f"kill {node} both", "served", f"order {other(node)} giveback {node} --uncoordinated --wait 1",
         f"wait {dice.seconds(0.01, 2)}", f"start {node}", "served"],
    ])


def departure_races(dice):
    """A planned takeover, and a fault or a cancellation at one of its steps."""
    node = dice.node()
    survivor = other(node)
    victim = dice.node()
    order = dice.choice([f"begin {survivor} takeover {node}", f"begin {node} takeover --self"])
    order += dice.choice(["", "", " --timeout 1"])
    at = dice.choice([f"await {node} {dice.choice(DEPARTURE_STEPS)} 5",
                      f"await {survivor} {dice.choice(['takeover.warming', 'takeover.counting_down'])} 5",
                      f"wait {dice.seconds(0.001, 0.3)}"])
    second = dice.choice([_death(dice, victim), _death(dice, victim), _pause(dice, victim, 8),
                          [_link(dice), f"wait {dice.seconds(0.05, 4)}", "heal link"], [_shelf(dice, victim)],
                          [f"order {dice.node()} cancel"], [f"order {dice.node()} cancel"]])
    slow = [f"shelf {node} slow all {dice.randint(2, 60)}"] if dice.random() < 0.4 else []
    return [*slow, order, at, *second, f"wait {dice.seconds(0.01, 3)}"]


def luns_change(dice):
    node = dice.node()
    lun = f"extra-{dice.randrange(1 << 32):08x}"
    steps = [f"order {node} lun create {lun} {dice.choice(['1MiB', '64MiB'])}"]
    steps += dice.choice([[], [f"begin {node} lun delete {lun}"]])
    steps += _death(dice, node) + ["served", f"order {other(node)} lun delete {lun} --identity {node}"]
    return steps


def giveback_races(dice):
    """A takeover, the way back, and a fault at one of its steps."""
    node = dice.node()
    survivor = other(node)
    victim = dice.node()
    begin = [f"can-give-back {survivor}", f"begin {survivor} giveback {node}"]
    at = dice.choice([[*begin, f"await {survivor} {dice.choice(GIVEBACK_STEPS)} 10"],
                      [*begin, f"await {survivor} {dice.choice(GIVEBACK_STEPS)} 10"],
                      [*begin, f"wait {dice.seconds(0.001, 1)}"],
                      [f"await {node} {dice.choice(BOOT_STEPS)} 10", f"begin {survivor} giveback {node}"]])
    second = dice.choice([_death(dice, victim), _death(dice, victim), _pause(dice, victim, 8),
                          [_link(dice), f"wait {dice.seconds(0.05, 4)}", "heal link"],
                          [_shelf(dice, node), f"wait {dice.seconds(0.05, 4)}", f"heal shelf {node}"]])
    slow = [f"shelf {node} slow all {dice.randint(2, 40)}"] if dice.random() < 0.5 else []
    return [f"abort {node}", "served", *slow, *at, *second]


def second_fault(dice):
    """Something fails, and while the takeover is under way something else does."""
    node = dice.node()
    survivor = other(node)
    first = dice.choice([_death(dice, node), _death(dice, node), [f"stop {node} both"],
                         [f"begin {survivor} takeover {node}"]])
    at = dice.choice([f"await {survivor} {dice.choice(TAKEOVER_STEPS)} 5", f"wait {dice.seconds(0.001, 2)}"])
    second = dice.choice([_death(dice, survivor), _death(dice, survivor), _pause(dice, survivor, 8),
                          _pause(dice, survivor, 2), [_link(dice)], [_shelf(dice, node)],
                          [_shelf(dice, survivor)]])
    slow = [f"shelf {node} slow all {dice.randint(2, 60)}"] if dice.random() < 0.4 else []
    return [*slow, *first, at, *second, f"wait {dice.seconds(0.05, 4)}"]


def processor_is_busy(dice):
    """Long enough for a false alarm, and a fault on top."""
    node = dice.node()
    return [f"burn {dice.choice([2, 4])}", f"wait {dice.seconds(0.1, 2)}",
            *dice.choice([[], _death(dice, node), [_link(dice)], [f"begin {node} takeover {other(node)}"]]),
            f"wait {dice.seconds(0.1, 2)}", "heal burn"]


def both_die(dice):
    first = dice.node()
    between = dice.choice([0.001, 0.3, dice.seconds(0.01, 3)])
    return [f"kill {first} both", f"wait {between}", f"kill {other(first)} both", f"start {dice.node()}",
            f"wait {dice.choice([0.05, 1, 12])}"]


def faults_at_random(dice):
    """Node, link and shelf faults in any order, healed or not."""
    steps = []
    for _ in range(dice.randint(2, 5)):
        node = dice.node()
        steps += dice.choice([_death(dice, node), [f"start {node}"], _pause(dice, node, 4), [_link(dice)],
                              ["heal link"], [_shelf(dice, node)], [f"heal shelf {node}"],
                              [f"begin {other(node)} takeover {node}"],
                              [f"begin {other(node)} giveback {node}"]])
        steps.append(f"wait {dice.seconds(0.01, 2)}")
    return steps


# (how often, what): the names are the kinds of the summary.
KINDS = [(4, node_dies), (4, node_pauses), (1, node_loses_nvram), (3, link_fails), (3, shelf_fails),
         (1, shelf_blinks), (4, operator_moves), (1, luns_change), (4, giveback_races),
         (4, departure_races), (5, second_fault), (1, both_die), (1, processor_is_busy), (3, faults_at_random)]


def settings(seed):
    """The configuration of both nodes, in which the rounds take place."""
    dice = _Dice(f"{seed}: settings")
    return {"nvram.size": dice.choice(['"16MiB"', '"64MiB"']),  # consistency points every second, or few
            "engine.cache": dice.choice(['"1MiB"', '"64MiB"']),
            "takeover.auto_giveback": dice.choice(["false", "false", "true"])}


def plan(seed, number, kinds=None):
    """`kinds`: names; None: all."""
    dice = _Dice(f"{seed}:{number}")
    choice = [(w, f) for w, f in KINDS if not kinds or f.__name__ in kinds]
    make = dice.choices([f for _, f in choice], [w for w, _ in choice])[0]
    return Plan(make.__name__.replace("_", "-"), make(dice))
