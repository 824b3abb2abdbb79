"""An iSCSI client that orders a write, never sends its data, and hears nothing more (RFC 7143, 11.2, 11.8, 11.12)."""

import socket
import struct

LOGIN, LOGIN_RESPONSE, COMMAND, RESPONSE, READY_TO_TRANSFER = 0x03, 0x23, 0x01, 0x21, 0x31
IMMEDIATE, FINAL, WRITE, SIMPLE = 0x40, 0x80, 0x20, 0x01
OPERATIONAL_TO_FULL_FEATURE = 0x80 | 1 << 2 | 3
BLOCK = 512


class HungClient:
    """Returns when the target asks for the data of its write, on the LUN at `url`."""

    def __init__(self, url, timeout):
        portal, target, lun = url.removeprefix("iscsi://").split("/")
        host, _, port = portal.rpartition(":")
        self._connection = socket.create_connection((host.strip("[]"), int(port)), timeout)
        try:
            self._log_in(target)
            self._order_write(int(lun))
        except BaseException:
            self.close()
            raise

    def close(self):
        self._connection.close()

    def _log_in(self, target):
        text = b"".join(f"{k}={v}\0".encode() for k, v in (
            ("InitiatorName", "iqn.2026-11.org.duet:test.hung"), ("TargetName", target), ("SessionType", "Normal"),
            ("AuthMethod", "None")))
        isid, task, command = bytes([0x80, 0x11, 0x22, 0x33, 0x44, 0x56]), 1, 1
        header = struct.pack("!BBBBI", LOGIN | IMMEDIATE, OPERATIONAL_TO_FULL_FEATURE, 0, 0, len(text))
        header += isid + struct.pack("!HIHHII", 0, task, 0, 0, command, 0) + bytes(16)
        self._connection.sendall(header + text + bytes(-len(text) % 4))
        answer = self._hear()
        if answer[0] != LOGIN_RESPONSE or answer[36] != 0 or not answer[1] & FINAL:
            raise RuntimeError(f"login refused: {answer.hex()}")

    def _order_write(self, lun):
        blocks = 8
        for number in range(1, 8):  # a new nexus hears of what happened before it came
            cdb = struct.pack("!BBIBHB", 0x2A, 0, 0, 0, blocks, 0) + bytes(6)
            self._connection.sendall(struct.pack(
                "!BBHIBB6xIIII", COMMAND, FINAL | WRITE | SIMPLE, 0, 0, 0, lun, number, blocks * BLOCK, number, 0) + cdb)
            answer = self._hear()
            if answer[0] == READY_TO_TRANSFER:
                return
            if answer[0] != RESPONSE:
                break
        raise RuntimeError(f"no request for data: {answer.hex()}")

    def _hear(self):
        header = self._read(48)
        self._read((int.from_bytes(header[5:8], "big") + 3) // 4 * 4)
        return header

    def _read(self, size):
        data = b""
        while len(data) < size:
            chunk = self._connection.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the target has closed the connection")
            data += chunk
        return data
