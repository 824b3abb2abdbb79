#!/usr/bin/python3
"""The management console on a third machine: `duet` through duet-apid, TLS with a pre-shared key."""

import secrets
import socket
import subprocess
import unittest

import pair as pair_module
import processes
import scenario

DONE, USAGE, UNREACHABLE = 0, 2, 6
MANAGEMENT_PORT = 7003


class Console(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.secret = self.write_secret("management", secrets.token_bytes(32))
        self.console = self.pair.directory / "console.toml"
        self.console.write_text(f'secret_file = "{self.secret}"\n' + "".join(
            f'[[node]]\nid = {n.number}\nname = "{n.name}"\naddress = "{n.address}"\n'
            f"port = {MANAGEMENT_PORT}\n" for n in self.pair.nodes.values()))

    def write_secret(self, name, value):
        path = self.pair.directory / name
        path.touch(mode=0o600)
        path.write_bytes(value)
        return path

    def start_pair(self):
        self.pair.prepare()
        for node in self.pair.nodes.values():
            node.write_config(self.pair.secret, {"management.address": f'"{node.address}"',
                                                 "management.port": MANAGEMENT_PORT,
                                                 "management.secret_file": f'"{self.secret}"'})
            node.start()
        self.pair.wait_healthy()

    def start_apid(self, node):
        process = self.pair.spawn([self.pair.program("duet-apid"), "--config", node.config],
                                  f"apid-{node.name}.log")
        processes.wait_until(lambda: self.answers(node.address), 10 * self.pair.scale,
                             f"duet-apid of {node.name} listens")
        return process

    def answers(self, address):
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex((address, MANAGEMENT_PORT)) == 0

    def duet(self, *arguments, timeout=90):
        done = subprocess.run([self.pair.program("duet"), *map(str, arguments)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_orders_from_a_third_machine(self):
        self.start_pair()
        code, _, error = self.duet("--console", self.console, "status")
        self.assertEqual(code, UNREACHABLE, "no duet-apid runs yet")
        self.assertIn("duet-apid", error)
        apid = self.start_apid(self.red)
        self.start_apid(self.blue)

        with self.subTest("questions"):
            for node in pair_module.NODES:
                code, out, error = self.duet("--console", self.console, "--node", node, "status")
                self.assertEqual(code, DONE, error)
                self.assertTrue(out.startswith(node), out)
            code, out, error = self.duet("--node", f"{self.red.address}:{MANAGEMENT_PORT}",
                                         "--secret", self.secret, "health")
            self.assertEqual(code, DONE, error)
            self.assertIn("interconnect", out)
        with self.subTest("another secret"):
            other = self.write_secret("other", secrets.token_bytes(32))
            code, out, error = self.duet("--node", f"{self.red.address}:{MANAGEMENT_PORT}",
                                         "--secret", other, "status")
            self.assertEqual((code, out), (UNREACHABLE, ""))
            self.assertIn("secret", error)
        with self.subTest("a plain client"):
            with socket.create_connection((self.red.address, MANAGEMENT_PORT), 5) as s:
                s.settimeout(10)
                s.sendall(b"GET / HTTP/1.1\r\n\r\n")
                answer = b""
                try:
                    while chunk := s.recv(4096):
                        answer += chunk
                except ConnectionResetError:
                    pass
                self.assertNotIn(b"red", answer)
            self.assertTrue(apid.running())
        with self.subTest("not for a console"):
            code, _, _ = self.duet("--console", self.console, "init")
            self.assertEqual(code, USAGE)

        with self.subTest("a takeover and the way back"):
            since = pair_module.boottime_ns()
            code, _, error = self.duet("--console", self.console, "--node", "blue", "takeover", "red")
            self.assertEqual(code, DONE, error)
            self.pair.wait_event("takeover.serving", since, 30, "blue")
            self.blue.wait_status(lambda s: s["giveback"]["possible"], 30, "can give back")
            code, _, error = self.duet("--console", self.console, "--node", "blue", "giveback", "red")
            self.assertEqual(code, DONE, error)
            self.pair.wait_healthy()
        with self.subTest("duet-apid dies, the node does not notice"):
            apid.end()
            self.assertEqual(self.red.status()["state"], "up")


if __name__ == "__main__":
    unittest.main()
