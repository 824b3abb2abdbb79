"""An iSCSI session that logs in and then says nothing: it learns of a takeover only if it is told."""

import struct
import threading
import time


def login_request(initiator, target):
    """RFC 7143 11.12: straight from the operational stage to full feature phase, without negotiation."""
    text = b"".join(f"{k}={v}\0".encode() for k, v in (
        ("InitiatorName", initiator), ("TargetName", target), ("SessionType", "Normal"),
        ("AuthMethod", "None")))
    stages = 0x80 | 1 << 2 | 3  # transit, from operational to full feature
    header = struct.pack("!BBBB", 0x43, stages, 0, 0) + bytes([0]) + len(text).to_bytes(3, "big")
    header += bytes([0x80, 0x11, 0x22, 0x33, 0x44, 0x55]) + bytes(2)  # ISID, TSIH
    header += struct.pack("!IHHII", 1, 0, 0, 1, 0) + bytes(16)  # task tag, CID, CmdSN, ExpStatSN
    return header + text + bytes(-len(text) % 4)


class IdleSession:
    def __init__(self, connection, target, name):
        self.ended = None  # (CLOCK_BOOTTIME ns, "reset" or "closed")
        self._connection = connection
        connection.sendall(login_request(f"iqn.2026-11.org.duet:test.{name}", target))
        header = self._read(48)
        self._read((int.from_bytes(header[5:8], "big") + 3) // 4 * 4)
        if header[0] & 0x3F != 0x23 or header[36] != 0 or not header[1] & 0x80:
            raise RuntimeError(f"login refused: {header.hex()}")
        connection.settimeout(None)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="idle session")
        self._thread.start()

    def _read(self, size):
        data = b""
        while len(data) < size:
            chunk = self._connection.recv(size - len(data))
            if not chunk:
                raise ConnectionError("closed during the login")
            data += chunk
        return data

    def _listen(self):
        how = "closed"
        try:
            while self._connection.recv(4096):
                pass  # pings and requests to log out, which a dead client does not answer
        except ConnectionResetError:
            how = "reset"
        except OSError as e:
            how = str(e)
        self.ended = (time.clock_gettime_ns(time.CLOCK_BOOTTIME), how)

    def wait_end(self, timeout):
        self._thread.join(timeout)
        return self.ended

    def close(self):
        self._connection.close()
