#!/usr/bin/env python3
"""Conformance of duet-shelf to SCSI and iSCSI, as libiscsi's iscsi-test-cu sees it.

conformance.py --shelf PROGRAM --expected FILE [--only REGEX] [--block-size N] [--report FILE]

Starts a shelf of its own on ports the kernel chooses and runs every test in a process of its own:
iscsi-test-cu counts tests it skipped as passed and exits with 0 after failures, so each output is
read and classified as pass, skip, fail, hang or crash. Whatever is not "pass" must be in FILE with
the same class and a reason, and what is in FILE must still be so. Exit 0 if all is as expected,
77 (skipped) without iscsi-test-cu.
"""

import argparse
import collections
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

IQN = "iqn.2026-11.org.duet:conformance"
TEST_LIMIT = 60  # seconds; the longest needs 4
# Its LUNResetSimpleAsync relies on a flag that an earlier test of the suite sets.
WHOLE_SUITES = {"iSCSITMF"}
SKIPPED_EXIT = 77


def expectations(path, block_size):
    """{test: (class, reason)} of lines 'SUITE.TEST[@BLOCK_SIZE] CLASS REASON'."""
    expected = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, kind, reason = line.split(None, 2)
            name, _, only_for = name.partition("@")
            if not only_for or int(only_for) == block_size:
                expected[name] = (kind, reason)
    return expected


def matching(expected, name):
    """An entry for a whole suite is 'SUITE.*'."""
    return name if name in expected else name.split(".")[0] + ".*"


def list_tests(pattern):
    out = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True).stdout
    names = [word[len("ALL."):] for word in out.split()
             if word.startswith("ALL.") and word.count(".") == 2]
    return [name for name in names if re.search(pattern, name)]


def classify(name, whole, output, code):
    """pass, skip, fail or crash, from CUnit's summary and the tool's own words."""
    counts = re.search(r"^\s*tests((?:\s+\d+){4})", output, re.M)
    if code < 0 or not counts:
        return "crash"
    _, ran, _, failed = map(int, counts[1].split())
    if ran == 0:
        return "crash"  # its suite could not be set up
    if failed and (not whole or f"Test {name.split('.')[1]} had failures" in output):
        return "fail"
    return "skip" if "[SKIPPED]" in output else "pass"


def run_test(name, urls):
    suite = name.split(".")[0]
    whole = suite in WHOLE_SUITES
    selection = "ALL." + (suite if whole else name)
    command = ["iscsi-test-cu", "--dataloss", "--normal", "--test=" + selection, *urls]
    # stdbuf would not reach a child that crashes; the pipe is read to its end all the same.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace")
    try:
        output, _ = process.communicate(timeout=TEST_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return "hang", output
    return classify(name, whole, output, process.returncode), output


class Shelf:
    def __init__(self, program, directory, block_size):
        self.log = open(directory / "shelf.log", "w")
        self.process = subprocess.Popen(
            [program, "--dir", directory / "disks", "--disks", "1", "--size", "100M", "--iqn", IQN,
             "--block-size", str(block_size), "--portal", "127.0.0.1:0", "--portal", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = self.process.stdout.readline()
        if not ready.startswith("ready portals="):
            sys.exit(f"duet-shelf did not start: {(directory / 'shelf.log').read_text()}")
        portals = ready.strip().removeprefix("ready portals=").split(",")
        self.urls = [f"iscsi://{portal}/{IQN}/0" for portal in portals]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.log.close()
        return code


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shelf", required=True)
    parser.add_argument("--expected", required=True, type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--block-size", type=int, default=512)
    parser.add_argument("--report", type=pathlib.Path)
    options = parser.parse_args()
    if not shutil.which("iscsi-test-cu"):
        print("iscsi-test-cu (package libiscsi-bin) is not installed")
        return SKIPPED_EXIT

    expected = expectations(options.expected, options.block_size)
    counts = collections.Counter()
    wrong, met = [], set()
    with tempfile.TemporaryDirectory(prefix="duet-conformance-") as name:
        directory = pathlib.Path(name)
        shelf = Shelf(options.shelf, directory, options.block_size)
        report = open(options.report, "w") if options.report else None
        for test in list_tests(options.only):
            urls = shelf.urls if test.startswith("MultipathIO.") else shelf.urls[:1]
            started = time.monotonic()
            kind, output = run_test(test, urls)
            took = time.monotonic() - started
            counts[kind] += 1
            entry = matching(expected, test)
            wanted = expected.get(entry, ("pass", ""))[0]
            met.add(entry)
            if report:
                print(test, kind, f"{took:.2f}", sep="\t", file=report, flush=True)
            if kind != wanted:
                wrong.append(test)
                tail = "\n".join("    " + line for line in output.splitlines()[-25:] if line.strip())
                print(f"{test}: {kind}, expected {wanted}\n{tail}", flush=True)
        if report:
            report.close()
        code = shelf.stop()
        if code != 0:
            wrong.append("duet-shelf")
            print(f"duet-shelf ended with {code}: {(directory / 'shelf.log').read_text()[-4000:]}")
    stale = set(expected) - met if not options.only else set()
    for entry in sorted(stale):
        print(f"{entry}: expected, but there is no such test")
    print(", ".join(f"{counts[kind]} {kind}" for kind in ("pass", "skip", "fail", "hang", "crash")))
    return 1 if wrong or stale else 0


if __name__ == "__main__":
    sys.exit(main())
