"""A counter on a LUN that is only ever moved by COMPARE AND WRITE, through libiscsi.

An answer that does not come leaves two possibilities: the counter is read to find out which. So whoever
executes a request twice, or late, is found: the counter is then not what it must be.
"""

import ctypes
import threading
import time

BLOCK = 512
GOOD, CHECK_CONDITION, BUSY = 0, 2, 8
SESSION_NORMAL = 2


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _library():
    lib = ctypes.CDLL("libiscsi.so.7")
    pointer, integer, u32 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
    for name, result, arguments in (
            ("iscsi_create_context", pointer, [ctypes.c_char_p]),
            ("iscsi_destroy_context", integer, [pointer]),
            ("iscsi_set_targetname", integer, [pointer, ctypes.c_char_p]),
            ("iscsi_set_session_type", integer, [pointer, integer]),
            ("iscsi_set_header_digest", integer, [pointer, integer]),
            ("iscsi_set_timeout", integer, [pointer, integer]),
            ("iscsi_set_noautoreconnect", None, [pointer, integer]),
            ("iscsi_full_connect_sync", integer, [pointer, ctypes.c_char_p, integer]),
            ("iscsi_read10_iov_sync", pointer,
             [pointer, integer, u32, u32, integer] + [integer] * 5 + [ctypes.POINTER(_Vector), integer]),
            ("iscsi_compareandwrite_sync", pointer,
             [pointer, integer, ctypes.c_uint64, ctypes.c_char_p, u32, integer] + [integer] * 5),
            ("scsi_free_scsi_task", None, [pointer])):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _content(value):
    return value.to_bytes(8, "little") * (BLOCK // 8)


class Counter:
    """Counts on block `block` of the LUN at `url` until stop(). Problems are in `wrong`."""

    def __init__(self, url, block):
        portal, self._target, lun = url.removeprefix("iscsi://").split("/")
        self._portal, self._lun, self._block = portal.encode(), int(lun), block
        self._name = f"iqn.2026-11.com.example:counter.{block}".encode()
        self._lib = _library()
        self._context = None
        self._stopping = threading.Event()
        self.value = 0
        self.unanswered = 0
        self.wrong = []
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"counter-{block}")
        self._thread.start()

    def stop(self, timeout=30):
        """Counts no more; returns the number of increments."""
        self._stopping.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.wrong.append("the counter does not end")
        return self.value

    # ---- the thread ----

    def _run(self):
        doubt = True  # the last answer has not come
        while not self.wrong and not (self._stopping.is_set() and not doubt):
            if self._context is None and not self._connect():
                time.sleep(0.005)  # nobody tells when the address is back
                continue
            if doubt:
                doubt = not self._look()
            else:
                doubt = not self._increment()
        self._drop()

    def _connect(self):
        lib = self._lib
        self._context = lib.iscsi_create_context(self._name)
        lib.iscsi_set_noautoreconnect(self._context, 1)
        lib.iscsi_set_targetname(self._context, self._target.encode())
        lib.iscsi_set_session_type(self._context, SESSION_NORMAL)
        lib.iscsi_set_header_digest(self._context, 0)
        lib.iscsi_set_timeout(self._context, 5)
        if lib.iscsi_full_connect_sync(self._context, self._portal, self._lun) == 0:
            return True
        self._drop()
        return False

    def _drop(self):
        if self._context is not None:
            self._lib.iscsi_destroy_context(self._context)
        self._context = None

    def _status(self, task):
        """SCSI status of a finished task, or None if there was no answer; then the session is gone."""
        status = None
        if task:
            status = ctypes.cast(task, ctypes.POINTER(ctypes.c_int))[0]
            self._lib.scsi_free_scsi_task(task)
        if status not in (GOOD, CHECK_CONDITION, BUSY):
            self._drop()
            return None
        return status

    def _look(self):
        """True when the doubt is over: the last increment happened once, or not at all."""
        buffer = ctypes.create_string_buffer(BLOCK)
        vector = _Vector(ctypes.cast(buffer, ctypes.c_void_p), BLOCK)
        status = self._status(self._lib.iscsi_read10_iov_sync(
            self._context, self._lun, self._block, BLOCK, BLOCK, 0, 0, 0, 0, 0, ctypes.byref(vector), 1))
        if status != GOOD:
            return False
        for value in (self.value, self.value + 1):
            if buffer.raw == _content(value):
                self.value = value
                return True
        self.wrong.append(f"block {self._block} holds {buffer.raw[:8].hex()}, not {self.value} or the next")
        return True

    def _increment(self):
        """False: unknown whether it happened."""
        data = _content(self.value) + _content(self.value + 1)
        status = self._status(self._lib.iscsi_compareandwrite_sync(
            self._context, self._lun, self._block, data, len(data), BLOCK, 0, 0, 0, 0, 0))
        if status == GOOD:
            self.value += 1
            return True
        if status is None:
            self.unanswered += 1
        return status == BUSY
