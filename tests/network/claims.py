"""Who answers for an address: asks all the time, from a machine of its own, so that what the client knows is
not touched, and keeps every claim with its time."""

import select
import socket
import struct
import threading
import time

SO_TIMESTAMPNS = 35
ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 3, 0x0806, 0x86DD
INTERVAL = 0.02  # between two questions, seconds
MAX_CLAIMS = 100_000
OWN_V6 = "2001:db8::101"  # the observer's own address (lan.py)


def hardware_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def arp_probe(self_hardware, address):
    """RFC 5227 2.1.1: from nobody, so that no cache learns anything."""
    return (b"\xff" * 6 + self_hardware + struct.pack("!HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, 1)
            + self_hardware + bytes(4) + bytes(6) + socket.inet_pton(socket.AF_INET, address))


def solicitation(self_hardware, address):
    """RFC 4861 7.2.2, from the observer: the answer comes to it alone. One from nobody would be answered to all
    nodes, as an announcement, and change what is observed."""
    target = socket.inet_pton(socket.AF_INET6, address)
    own = socket.inet_pton(socket.AF_INET6, OWN_V6)
    group = bytes.fromhex("ff02" + "00" * 9 + "01ff") + target[13:]
    body = struct.pack("!BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + self_hardware
    pseudo = own + group + struct.pack("!II", len(body), 58)
    total = sum(struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + own + group
    return b"\x33\x33" + group[12:] + self_hardware + struct.pack("!H", ETH_P_IPV6) + header + body


def claimant(frame, address):
    """Hardware address of the machine that claims `address` in this frame, or None."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == ETH_P_ARP and len(frame) >= 42:
        if frame[28:32] == socket.inet_pton(socket.AF_INET, address):
            return frame[22:28].hex(":")
    if kind == ETH_P_IPV6 and len(frame) >= 86 and frame[20] == 58 and frame[54] == 136:
        if frame[62:78] == socket.inet_pton(socket.AF_INET6, address):
            return frame[80:86].hex(":")
    return None


class Claims:
    """Runs until stop(). Times are CLOCK_BOOTTIME in ns, taken by the kernel on arrival."""

    def __init__(self, machine, interface, hardware, address):
        self.address = address
        self.found = []  # (t, hardware address)
        question = solicitation if ":" in address else arp_probe
        self._question = question(hardware_bytes(hardware), address)
        self._socket = machine.call(lambda: self._open(interface))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"claims on {address}")
        self._thread.start()

    @staticmethod
    def _open(interface):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        s.bind((interface, ETH_P_ALL))
        s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        s.setblocking(False)
        return s

    def _run(self):
        next_question = 0.0
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= next_question:
                next_question = now + INTERVAL
                try:
                    self._socket.send(self._question)
                except OSError:
                    pass  # the buffer is full, the link down: asked again soon
            if select.select([self._socket], [], [], INTERVAL)[0]:
                self._receive()

    def _receive(self):
        to_boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.time_ns()
        while True:
            try:
                frame, extras, _, source = self._socket.recvmsg(2048, 256)
            except BlockingIOError:
                return
            if source[2] == socket.PACKET_OUTGOING or len(self.found) >= MAX_CLAIMS:
                continue
            who = claimant(frame, self.address)
            if who is None:
                continue
            seconds, nanoseconds = struct.unpack("qq", extras[0][2][:16])
            self.found.append((seconds * 1_000_000_000 + nanoseconds + to_boottime, who))

    def since(self, t):
        return [claim for claim in list(self.found) if claim[0] >= t]

    def owners(self, since):
        """The hardware addresses in the order in which they took turns."""
        turns = []
        for _, who in self.since(since):
            if not turns or turns[-1] != who:
                turns.append(who)
        return turns

    def stop(self):
        self._stopped.set()
        self._thread.join(5)
        self._socket.close()
