#!/usr/bin/python3
"""Other people's initiators on a LUN, before and after a takeover."""

import re
import subprocess
import unittest

import pair as pair_module
import scenario


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL, check=False)
    return done.returncode, done.stdout + done.stderr


class Clients(scenario.Scenario):
    def must(self, *argv):
        code, out = run(*argv)
        self.assertEqual(code, 0, f"{' '.join(argv)}: {out}")
        return out

    def inquiry(self, url):
        """What an initiator recognises a LUN by: standard inquiry, serial number, designators."""
        return [self.must("iscsi-inq", url),
                *(self.must("iscsi-inq", "-e", "1", "-c", page, url) for page in ("0x80", "0x83"))]

    def test_clients(self):
        self.pair.start()
        url = self.pair.create_lun("red", size="64MiB")
        portal = f"iscsi://{self.red.service_address}:{pair_module.ISCSI_PORT}"

        listing = self.must("iscsi-ls", "-s", portal)
        self.assertIn(self.red.iqn, listing)
        self.assertNotIn(self.blue.iqn, listing)
        self.assertRegex(listing, re.compile(r"[Ll]un:\s*" + url.rsplit("/", 1)[1]))
        before = self.inquiry(url)

        qemu_io = ["qemu-io", "-f", "raw", "-t", "none"]
        out = self.must(*qemu_io, "-c", "write -P 0x5a 0 1M", "-c", "write -P 0xc3 1234432 12k",
                        "-c", "flush", "-c", "read -P 0x5a 0 1M", "-c", "read -P 0xc3 1234432 12k",
                        "-c", "length", url)
        self.assertNotIn("Pattern verification failed", out)
        self.assertIn("64 MiB", out)

        t = self.red.kill()
        self.pair.wait_event("takeover.serving", t, 20, "blue")
        out = self.must(*qemu_io, "-c", "read -P 0x5a 0 1M", "-c", "read -P 0xc3 1234432 12k", url)
        self.assertNotIn("Pattern verification failed", out)
        self.assertEqual(self.inquiry(url), before)
        self.must("qemu-img", "convert", "-f", "raw", "-O", "raw", url,
                  str(self.pair.directory / "copy.img"))
        with open(self.pair.directory / "copy.img", "rb") as f:
            self.assertEqual(f.read(1 << 20), b"\x5a" * (1 << 20))


if __name__ == "__main__":
    unittest.main()
