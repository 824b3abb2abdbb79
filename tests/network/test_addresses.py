#!/usr/bin/python3
"""Service addresses on a real network: a client, red and blue, each a machine of its own.

Each family gets a pair; the load and the questions who has the address run through all of its moves.
"""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pair"))

import claims as claims_module
import idle_session
import lan as lan_module
import load as load_module
import moves
import network_pair
import pair as pair_module
import processes
from processes import boottime_ns

SKIPPED = 77  # SKIP_RETURN_CODE in tests/CMakeLists.txt
RED, BLUE = lan_module.HARDWARE["red"], lan_module.HARDWARE["blue"]
MS = 1_000_000
# An address outlives its supervisor by so much (docs/protocols/addresses.md A3), and the observer's slack.
ZOMBIE_NS = 3_000 * MS + 500 * MS
# From the service of the survivor until the client knows: one announcement, which is sent at once.
CLIENT_KNOWS_MS = 500


class Family:
    """The moves; a family of addresses each."""

    service = None
    prefix = None

    @classmethod
    def setUpClass(cls):
        cls.lan = lan_module.Lan()
        cls.addClassCleanup(cls.lan.close)
        cls.pair = network_pair.NetworkPair(cls.lan, cls.service, cls.prefix)
        cls.addClassCleanup(cls.pair.close)
        cls.pair.start()
        cls.urls = [cls.pair.create_lun(name) for name in pair_module.NODES]
        cls.load = load_module.Load(cls.pair, cls.urls)
        cls.claims = claims_module.Claims(cls.lan["observer"], "cli0",
                                          lan_module.HARDWARE["observer"], cls.service[0])
        cls.addClassCleanup(cls.claims.stop)

    def setUp(self):
        self.red, self.blue = self.pair.red, self.pair.blue
        self.address = self.service[0]  # red's identity is the one that moves
        self.addCleanup(self.show_logs)
        self.come_home()

    def come_home(self):
        """After a test that failed in the middle of its move."""
        if not self.red.process.running():
            self.red.start()
        if self.red.stopped:
            self.red.resume()
        if pair_module.serves_both(self.blue.wait_status(lambda _: True, 5, "a status")):
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            self.blue.must("giveback", "red")
        self.pair.wait_healthy()

    def show_logs(self):
        outcome = self._outcome.result
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            for name in pair_module.NODES:
                print(f"---- {name}: {self.pair.tail(name + '.log', 40)}")

    # ---- what is looked at in every move ----

    def idle(self):
        connection = self.lan.connect(self.address, pair_module.ISCSI_PORT)
        session = idle_session.IdleSession(connection, self.red.iqn, self.id().rsplit(".", 1)[-1])
        self.addCleanup(session.close)
        # The partner knows of it once the engine has reported it.
        self.red.wait_status(lambda s: pair_module.identity(s, "red")["sessions"] >= 2, 5, "two sessions")
        return session

    def assert_client_knows(self, hardware, since):
        processes.wait_until(lambda: self.lan.neighbour(self.address) == hardware,
                             CLIENT_KNOWS_MS / 1000 * self.pair.scale + 0.2,
                             f"the client has {hardware} for {self.address}")
        print(f"    the client knows {(boottime_ns() - since) / MS:.0f} ms after the address came up")

    def assert_idle_ends(self, session, since, how=("reset",)):
        end = session.wait_end(10 * self.pair.scale)
        self.assertIsNotNone(end, "the idle connection lives on in nowhere")
        self.assertIn(end[1], how)
        print(f"    the idle session ended ({end[1]}) {(end[0] - since) / MS:.0f} ms after "
              f"the address came up")
        self.assertLess(end[0] - since, 2_000 * MS * self.pair.scale)

    def assert_one_after_the_other(self, since, old, new):
        """I16. The old one may have let go before it was asked again."""
        turns = self.claims.owners(since)
        self.assertEqual(turns[1:] if turns[:1] == [old] else turns, [new], "both claimed the address")

    def address_up(self, node, since):
        return self.pair.wait_event("address.up", since, 20, node.name).t

    def give_back(self):
        """Ends with red serving its own identity again, and both healthy."""
        self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
        session = idle_session.IdleSession(
            self.lan.connect(self.address, pair_module.ISCSI_PORT), self.red.iqn, "giveback")
        self.addCleanup(session.close)
        self.blue.wait_status(lambda s: pair_module.identity(s, "red")["sessions"] >= 2, 5, "two sessions")
        self.load.mark("giveback")
        t = boottime_ns()
        self.blue.must("giveback", "red")
        up = self.address_up(self.red, t)
        self.assert_client_knows(RED, up)
        self.assert_idle_ends(session, up, ("reset", "closed"))
        self.load.wait_flowing(up, 10 * self.pair.scale)
        pause = self.load.mark("quiet")["pause_ms"]
        self.pair.wait_healthy()
        self.assert_one_after_the_other(t, BLUE, RED)
        print(f"    giveback: the longest pause of a client {pause:.0f} ms")

    # ---- the moves ----

    def test_1_portals_are_found_by_the_address(self):
        host = f"[{self.address}]" if ":" in self.address else self.address
        found = self.lan["client"].run("iscsi-ls", "-s", f"iscsi://{host}:{pair_module.ISCSI_PORT}")
        self.assertIn(f"{host}:{pair_module.ISCSI_PORT}", found)
        self.assertIn(self.red.iqn, found)
        self.lan["client"].run("iscsi-inq", self.urls[0])
        self.assertIn("cli0 up", self.red.must("status"))

    def test_2_planned_takeover(self):
        session = self.idle()
        self.load.mark("planned")
        t = boottime_ns()
        self.blue.must("takeover", "red")
        up = self.address_up(self.blue, t)
        self.assert_client_knows(BLUE, up)
        self.assert_idle_ends(session, up, ("reset", "closed"))
        self.load.wait_flowing(up, 10 * self.pair.scale)
        print(f"    planned: the longest pause of a client {self.load.mark('back')['pause_ms']:.0f} ms")
        self.assert_one_after_the_other(t, RED, BLUE)
        self.give_back()

    def test_3_engine_panics(self):
        session = self.idle()
        self.load.mark("panic")
        t = self.red.crash_engine()
        up = self.address_up(self.blue, t)
        down = self.pair.wait_event("address.down", t, 5, "red").t
        self.assertLess(down, up)
        self.assert_client_knows(BLUE, up)
        self.assert_idle_ends(session, up, ("reset", "closed"))
        self.load.wait_flowing(up, 10 * self.pair.scale)
        print(f"    panic: the longest pause of a client {self.load.mark('back')['pause_ms']:.0f} ms")
        self.assert_one_after_the_other(t, RED, BLUE)
        self.give_back()

    def test_4_both_processes_killed(self):
        """The kernel of red lives, and answers until the address's lifetime is over."""
        self.load.mark("killed")
        t = self.red.kill()
        up = self.address_up(self.blue, t)
        self.assert_client_knows(BLUE, up)
        self.load.wait_flowing(up, 10 * self.pair.scale)
        print(f"    killed: the longest pause of a client {self.load.mark('back')['pause_ms']:.0f} ms")
        self.wait_zombie_gone(t)
        self.red.start()
        self.give_back()

    def test_5_node_stands_still_and_goes_on(self):
        """The hard case: its kernel still answers ARP and TCP, and an idle client notices nothing."""
        session = self.idle()
        self.load.mark("stopped")
        t = self.red.stop()
        up = self.address_up(self.blue, t)
        self.assert_client_knows(BLUE, up)
        self.assert_idle_ends(session, up, ("reset",))
        if self.pair.scale == 1:  # else its address has ended before blue has taken over
            self.pair.wait_event("address.duplicate", up, 10, "blue")
        self.load.wait_flowing(up, 10 * self.pair.scale)
        resumed = self.red.resume()
        self.pair.wait_event("node.fenced", resumed, 20, "red")
        late = [c for c in self.claims.since(resumed) if c[1] == RED]
        if late:
            print(f"    red still answered {(late[-1][0] - resumed) / MS:.0f} ms after it went on")
            self.assertLess(late[-1][0] - resumed, 200 * MS * self.pair.scale, "not taken down at once")
        self.assert_client_knows(BLUE, up)
        self.load.wait_flowing(boottime_ns(), 10 * self.pair.scale)
        print(f"    stopped: the longest pause of a client {self.load.mark('back')['pause_ms']:.0f} ms")
        self.give_back()

    def test_6_node_stands_still_for_long(self):
        self.load.mark("stopped")
        t = self.red.stop()
        up = self.address_up(self.blue, t)
        self.load.wait_flowing(up, 10 * self.pair.scale)
        self.wait_zombie_gone(t)
        self.assertEqual(self.lan.neighbour(self.address), BLUE)
        resumed = self.red.resume()
        self.pair.wait_event("node.fenced", resumed, 20, "red")
        self.assertEqual([c for c in self.claims.since(resumed) if c[1] == RED], [])
        self.give_back()

    def wait_zombie_gone(self, fault):
        """Nobody but blue answers any more, once the lifetime is over."""
        end = fault + ZOMBIE_NS
        processes.wait_until(lambda: boottime_ns() > end + 500 * MS, 10, "the lifetime is over")
        red = [c for c in self.claims.since(fault) if c[1] == RED]
        if red:
            print(f"    the kernel of red answered for {(red[-1][0] - fault) / MS:.0f} ms")
            self.assertLess(red[-1][0], end)
        self.assertEqual({c[1] for c in self.claims.since(end)}, {BLUE})

    def test_9_nothing_was_lost(self):
        summary = self.load.stop()
        self.assertEqual((summary["lost"], summary["bad_reads"], summary["hard_errors"],
                          summary["unverified"], self.load.exit_code), (0, 0, 0, 0, 0))
        self.assertGreater(summary["verified"], 0)


class Ipv4(Family, unittest.TestCase):
    service = ("192.0.2.31", "192.0.2.32")
    prefix = 24


class Ipv6(Family, unittest.TestCase):
    service = ("2001:db8::31", "2001:db8::32")
    prefix = 64


if __name__ == "__main__":
    reason = lan_module.why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    unittest.main()
