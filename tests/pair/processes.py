"""Child processes that never outlive us: each dies with its parent, and every one is ended by its pid."""

import os
import signal
import subprocess
import time

# A PSM library that libfabric loads catches crash signals before our programs can object.
NO_CRASH_HANDLERS = {"IPATH_NO_BACKTRACE": "1"}


def boottime_ns():
    """The clock of the nodes' events and of duet-load."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Process:
    """A program of its own session. Its output goes to `log` (appended), or to a pipe."""

    def __init__(self, argv, log=None, stdin=None, stdout=None, die_with_us=True, env=None, cwd=None):
        self.argv = [str(a) for a in argv]
        # setpriv executes the program in its own place: the pid stays. The signal comes when the
        # thread that started it ends, too.
        wrapper = ["setpriv", "--pdeathsig", "KILL", "--"] if die_with_us else []
        with open(log or os.devnull, "ab") as out:
            self.popen = subprocess.Popen(
                wrapper + self.argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout or out,
                stderr=out, start_new_session=True, text=True,
                env={**os.environ, **NO_CRASH_HANDLERS, **(env or {})}, cwd=cwd)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def family(self):
        """Pids of this process and of those it started."""
        found = [self.pid] if self.running() else []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != self.pid and session_of(int(entry)) == self.pid:
                found.append(int(entry))
        return found

    def signal_family(self, number):
        """Sends a signal to all of them at once, as near as can be."""
        pids = self.family()
        for pid in pids:
            send(pid, number)
        return pids

    def wait(self, timeout):
        """Exit code, or None if it still runs."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self, patience=0.0):
        """SIGTERM first if there is patience; then SIGKILL, stopped processes too."""
        if patience and self.running():
            send(self.pid, signal.SIGTERM)
            self.wait(patience)
        for _ in range(3):  # one that was just being started shows up in the second round
            if not self.signal_family(signal.SIGKILL):
                break
            self.wait(5)
        self.wait(5)


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on (proc(5)), or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def session_of(pid):
    fields = stat_fields(pid)
    return int(fields[3]) if fields and fields[0] != "Z" else None


def start_time(pid):
    """Clock ticks since boot; tells a process from a later one of the same pid."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def alive(pid):
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in "ZX"


def wait_until(condition, timeout, what="a condition", interval=0.01):
    """For what has no event to wait for. Returns the first true value."""
    limit = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(interval)
