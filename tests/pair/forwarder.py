"""A TCP forwarder that stands for the cable between the nodes: can be cut, healed, and slowed.

It listens on one address for some ports and passes each connection on to the same port of another
address. Bounded: MAX_CONNECTIONS, and BUFFER bytes in each direction.
"""

import collections
import selectors
import socket
import threading
import time

MAX_CONNECTIONS = 64
BUFFER = 256 * 1024
CHUNK = 64 * 1024


# Directions, as seen from who dials: its bytes, and the answers.
FORTH, BACK = "forth", "back"


class _Half:
    """One direction of a connection."""

    def __init__(self, port, way, source, sink):
        self.lane = (port, way)
        self.source = source
        self.sink = sink
        self.chunks = collections.deque()  # (when it may leave, bytes)
        self.size = 0
        self.ended = False


class Forwarder:
    def __init__(self, listen_address, target_address, ports):
        self._target = target_address
        self._lock = threading.Lock()
        self._listeners = []
        self._pairs = []  # [(_Half, _Half)]
        self._lanes = {(port, way) for port in ports for way in (FORTH, BACK)}
        self._cut = set()  # of the lanes
        self._delay = 0.0
        self._running = True
        self.passed_bytes = 0
        for port in ports:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((listen_address, port))
            s.listen(16)
            s.setblocking(False)
            self._listeners.append(s)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._thread = threading.Thread(target=self._run, daemon=True, name="forwarder")
        self._thread.start()

    def cut(self, port=None, way=None):
        """Nothing passes any more, silently, as if the cable were pulled: of one port or all, in one
        direction or both. New connections need both."""
        self._change(cut=self._cut | {lane for lane in self._lanes
                                      if port in (None, lane[0]) and way in (None, lane[1])})

    def heal(self):
        self._change(cut=set())

    def delay(self, seconds):
        """Every byte takes so much longer in each direction."""
        self._change(delay=seconds)

    def reset(self):
        """Closes all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._drop(pair)
        self._wake()

    def close(self):
        self._running = False
        self._wake()
        self._thread.join(5)
        self.reset()
        for s in (*self._listeners, self._wake_in, self._wake_out):
            s.close()

    def _change(self, cut=None, delay=None):
        with self._lock:
            self._cut = self._cut if cut is None else cut
            self._delay = self._delay if delay is None else delay
        self._wake()

    def _wake(self):
        self._wake_out.send(b"x")

    @staticmethod
    def _drop(pair):
        for half in pair:
            half.source.close()

    def _run(self):
        while self._running:
            with self._lock:
                wanted = {self._wake_in: selectors.EVENT_READ}
                timeout = None
                now = time.monotonic()
                if len(self._pairs) < MAX_CONNECTIONS:
                    wanted.update((s, selectors.EVENT_READ) for s in self._listeners if self._open(s))
                for pair in self._pairs:
                    for half in pair:
                        if half.lane not in self._cut:
                            if half.size < BUFFER and not half.ended:
                                wanted[half.source] = wanted.get(half.source, 0) | selectors.EVENT_READ
                            if half.chunks and half.chunks[0][0] <= now:
                                wanted[half.sink] = wanted.get(half.sink, 0) | selectors.EVENT_WRITE
                            elif half.chunks:
                                left = half.chunks[0][0] - now
                                timeout = left if timeout is None else min(timeout, left)
            self._poll(wanted, timeout)

    def _open(self, listener):
        port = listener.getsockname()[1]
        return not any(lane[0] == port for lane in self._cut)

    def _poll(self, wanted, timeout):
        selector = selectors.DefaultSelector()
        try:
            for s, mask in wanted.items():
                if s.fileno() >= 0:
                    selector.register(s, mask)
            ready = {key.fileobj: mask for key, mask in selector.select(timeout)}
        finally:
            selector.close()
        if self._wake_in in ready:
            self._wake_in.recv(4096)
        with self._lock:
            for s in self._listeners:
                if s in ready and self._open(s):
                    self._accept(s)
            dead = [pair for pair in self._pairs if not self._move(pair, ready)]
            for pair in dead:
                self._pairs.remove(pair)
                self._drop(pair)

    def _accept(self, listener):
        try:
            near, _ = listener.accept()
        except OSError:
            return
        port = listener.getsockname()[1]
        try:  # loopback: answers at once, one way or the other
            far = socket.create_connection((self._target, port), timeout=0.5)
        except OSError:
            near.close()
            return
        for s in (near, far):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((_Half(port, FORTH, near, far), _Half(port, BACK, far, near)))

    def _move(self, pair, ready):
        now = time.monotonic()
        try:
            for half in pair:
                if half.lane in self._cut:
                    continue
                if ready.get(half.source, 0) & selectors.EVENT_READ and half.size < BUFFER:
                    data = half.source.recv(CHUNK)
                    if data:
                        half.chunks.append((now + self._delay, data))
                        half.size += len(data)
                    else:
                        half.ended = True
                while half.chunks and half.chunks[0][0] <= now:
                    when, data = half.chunks.popleft()
                    try:
                        sent = half.sink.send(data)
                    except BlockingIOError:
                        sent = 0
                    half.size -= sent
                    self.passed_bytes += sent
                    if sent < len(data):
                        half.chunks.appendleft((when, data[sent:]))
                        break
                if half.ended and not half.chunks:
                    return False  # one end closed: both are, as RDMA connections know no half close
        except OSError:
            return False
        return True
