#!/usr/bin/python3
"""The parts of the harness that could hide a fault: the cable, and the end of processes."""

import pathlib
import socket
import subprocess
import sys
import threading
import time
import unittest

import forwarder
import pair as pair_module
import processes


class Cable(unittest.TestCase):
    def setUp(self):
        network = pair_module.free_network()
        self.server = socket.create_server((f"{network}.1", 7001))
        self.addCleanup(self.server.close)
        threading.Thread(target=self._echo, daemon=True).start()
        self.cable = forwarder.Forwarder(f"{network}.101", f"{network}.1", [7001])
        self.addCleanup(self.cable.close)
        self.client = socket.create_connection((f"{network}.101", 7001), timeout=5)
        self.addCleanup(self.client.close)

    def _echo(self):
        try:
            peer, _ = self.server.accept()
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data)
        except OSError:
            pass

    def echo(self, data):
        self.client.sendall(data)
        got = b""
        while len(got) < len(data):
            chunk = self.client.recv(65536)
            if not chunk:
                break
            got += chunk
        return got

    def test_passes_everything_unchanged(self):
        data = bytes(range(256)) * 64
        self.assertEqual(self.echo(data), data)

    def test_cut_is_silent_and_healing_delivers(self):
        self.echo(b"before")
        self.cable.cut()
        self.client.sendall(b"during")
        self.client.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            self.client.recv(6)
        self.client.settimeout(5)
        self.cable.heal()
        self.assertEqual(self.client.recv(6), b"during")

    def test_cut_of_one_direction(self):
        for way in (forwarder.FORTH, forwarder.BACK):
            self.cable.cut(7001, way)
            passed = self.cable.passed_bytes
            self.client.sendall(b"during")
            self.client.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                self.client.recv(6)
            self.assertEqual(self.cable.passed_bytes - passed, 0 if way == forwarder.FORTH else 6)
            self.client.settimeout(5)
            self.cable.heal()
            self.assertEqual(self.client.recv(6), b"during")

    def test_cut_of_another_port(self):
        self.cable.cut(port=7002)
        self.assertEqual(self.echo(b"passes"), b"passes")

    def test_delay(self):
        self.cable.delay(0.05)
        begin = time.monotonic()
        self.assertEqual(self.echo(b"slow"), b"slow")
        self.assertGreaterEqual(time.monotonic() - begin, 0.1)

    def test_reset_ends_connections(self):
        self.echo(b"x")
        self.cable.reset()
        self.assertEqual(self.client.recv(1), b"")


class Processes(unittest.TestCase):
    def test_end_takes_children_along(self):
        process = processes.Process(["sh", "-c", "sleep 100 & sleep 100 & wait"])
        family = processes.wait_until(lambda: len(f := process.family()) == 3 and f, 5, "children")
        process.end()
        processes.wait_until(lambda: not any(map(processes.alive, family)), 5, "all ended")

    def test_nothing_outlives_us(self):
        program = ("import processes; p = processes.Process(['sleep', '100']); "
                   "print(p.pid, flush=True); input()")
        parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, cwd=sys.path[0] or ".")
        pid = int(parent.stdout.readline())
        processes.wait_until(lambda: "sleep" in pathlib.Path(f"/proc/{pid}/comm").read_text(), 5, "it runs")
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
        processes.wait_until(lambda: not processes.alive(pid), 5, "the child died with its parent")


if __name__ == "__main__":
    unittest.main()
