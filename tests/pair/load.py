"""Drives duet-load: a verifying client of one or more LUNs."""

import json
import queue
import subprocess
import threading

import processes


class Load:
    """Starts at once; returns when every LUN answers. Use as a context manager, or stop() it."""

    def __init__(self, pair, urls, log_name="load", extra=(), start_limit=30):
        self._answers = queue.Queue()
        self._started = threading.Event()
        self._ended = threading.Event()
        self.summary = None
        self.exit_code = None
        self.log_path = pair.directory / f"{log_name}.jsonl"
        self._error_path = pair.directory / f"{log_name}.err"
        self._process = processes.Process(
            [*pair.enter("client"), pair.program("duet-load"), "--stdin", "--log", self.log_path, "--start-limit",
             start_limit, *extra, *urls],
            log=self._error_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True, name=log_name)
        self._reader.start()
        pair.on_close(self._close)
        while not self._started.wait(0.2):
            if self._ended.is_set():
                break
        if not self._started.is_set():
            raise RuntimeError(f"duet-load: {self.complaints()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()

    def _close(self):
        if self.exit_code is None:
            self._process.end()
        self._reader.join(5)
        self._process.popen.stdin.close()
        self._process.popen.stdout.close()

    def _read(self):
        for line in self._process.popen.stdout:
            item = json.loads(line)
            if item["event"] == "started":
                self._started.set()
            elif item["event"] == "summary":
                self.summary = item
            else:
                self._answers.put(item)
        self._ended.set()

    def _command(self, line, timeout=10):
        self._process.popen.stdin.write(line + "\n")
        self._process.popen.stdin.flush()
        return self._answers.get(timeout=timeout)

    def mark(self, name):
        """Begins a measuring window; returns {"pause_ms", "luns", "ended"} of the one before."""
        return self._command(f"mark {name}")

    def status(self):
        return self._command("status")["luns"]

    def wait_flowing(self, since_ns, timeout):
        """Until every LUN has completed a command after `since_ns` (CLOCK_BOOTTIME)."""
        processes.wait_until(
            lambda: all(lun["last_completion"] > since_ns for lun in self.status()), timeout,
            "the load gets answers on every LUN")

    def stop(self, timeout=90):
        """Reads everything back; returns the summary."""
        self._command("stop")
        self.exit_code = self._process.wait(timeout)
        if self.exit_code is None:
            self._process.end()
            raise TimeoutError("duet-load does not end")
        self._reader.join(5)
        if self.summary is None:
            raise RuntimeError(f"duet-load ended with {self.exit_code} and without a summary")
        return self.summary

    def complaints(self):
        """What the program said on standard error."""
        return self._error_path.read_text()

    def events(self, name=None):
        with open(self.log_path, encoding="ascii") as f:
            items = [json.loads(line) for line in f if line.endswith("\n")]
        return [i for i in items if name is None or i["event"] == name]
