"""Follows `duet events -f --json` of a node for as long as the node lives, over its restarts too."""

import json
import subprocess
import threading
import time

import processes


class Event:
    def __init__(self, node, item):
        self.node = node
        self.t = item["boottime_ns"]
        self.number = item["number"]
        self.severity = item["severity"]
        self.phase = item["phase"]
        self.text = item["text"]

    def __repr__(self):
        return f"{self.t / 1e9:.3f} {self.node} {self.phase}: {self.text}"


class EventLog:
    """The events of all nodes in one list, and a way to wait for one. Bounded: MAX_EVENTS."""

    MAX_EVENTS = 200_000

    def __init__(self):
        self.changed = threading.Condition()
        self._events = []
        self._seen = set()
        self._followers = {}

    def follow(self, node, argv, log):
        """Starts following; restarts the command when it ends, until stop()."""
        follower = _Follower(self, node, argv, log)
        self._followers[node] = follower
        follower.start()

    def stop(self, node=None):
        for name in [node] if node else list(self._followers):
            follower = self._followers.pop(name, None)
            if follower:
                follower.stop()

    def add(self, node, item):
        event = Event(node, item)
        with self.changed:
            if (node, event.t, event.number) in self._seen or len(self._events) >= self.MAX_EVENTS:
                return
            self._seen.add((node, event.t, event.number))
            self._events.append(event)
            self.changed.notify_all()

    def since(self, t0, phase=None, node=None):
        with self.changed:
            return self._matching(t0, phase, node)

    def _matching(self, t0, phase, node):
        return sorted((e for e in self._events
                       if e.t >= t0 and (node is None or e.node == node)
                       and (phase is None or e.phase == phase)), key=lambda e: e.t)

    def wait(self, phase, since, timeout, node=None, check=None):
        """The first event of that phase at or after `since`. `check` is called now and then, to
        fail early."""
        limit = time.monotonic() + timeout
        with self.changed:
            while True:
                found = self._matching(since, phase, node)
                if found:
                    return found[0]
                left = limit - time.monotonic()
                if left <= 0:
                    last = [repr(e) for e in self._matching(since, None, None)[-12:]]
                    raise TimeoutError(f"no event {phase}{' of ' + node if node else ''} within "
                                       f"{timeout} s; last events: {last}")
                self.changed.wait(min(left, 0.5))
                if check:
                    check()


class _Follower(threading.Thread):
    def __init__(self, log, node, argv, stderr_path):
        super().__init__(daemon=True, name=f"events of {node}")
        self._log = log
        self._node = node
        self._argv = argv
        self._stderr_path = stderr_path
        self._stopped = threading.Event()
        self._process = None

    def run(self):
        while not self._stopped.is_set():
            self._process = processes.Process(self._argv, log=self._stderr_path,
                                              stdout=subprocess.PIPE)
            for line in self._process.popen.stdout:
                try:
                    self._log.add(self._node, json.loads(line))
                except (ValueError, KeyError):
                    continue  # cut short by the end of the daemon
            self._process.popen.stdout.close()
            self._process.wait(5)
            self._stopped.wait(0.02)  # the daemon is down: try until it is back

    def stop(self):
        self._stopped.set()
        process = self._process
        if process and process.running():
            process.end()
        self.join(5)
