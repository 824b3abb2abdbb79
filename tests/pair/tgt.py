"""A private tgtd (Debian's `tgt`) to compare with: LUN 1 on /dev/shm, LUN 2 on a file with O_SYNC."""

import os
import shutil
import subprocess

import processes

IQN = "iqn.2026-11.org.duet:tgt"
PORT = 3260
# tgtadm has no word for "write cache off"; this is what tgt-admin sends for it.
CACHING_PAGE_WCE_OFF = "mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0"


class Tgt:
    def __init__(self, pair, size):
        """Lives as long as `pair`, on an address of its network."""
        self.address = f"{pair.network}.200"
        self._control = str(20000 + os.getpid() % 10000)  # names tgtd's control socket
        self._program = shutil.which("tgtd") or "/usr/sbin/tgtd"
        self._admin = shutil.which("tgtadm") or "/usr/sbin/tgtadm"
        files = {1: pair.nvram_directory / "tgt.img", 2: pair.directory / "tgt-sync.img"}
        self._process = processes.Process(
            [self._program, "-f", "-C", self._control, "--iscsi", f"portal={self.address}:{PORT}"],
            log=pair.directory / "tgtd.log")
        pair.on_close(self._process.end)  # tgtd ignores SIGTERM
        processes.wait_until(lambda: self._run("--op", "show", "--mode", "sys") == 0, 10, "tgtd answers")
        self._must("--op", "new", "--mode", "target", "--tid", "1", "-T", IQN)
        self._must("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
        for lun, path in files.items():
            with open(path, "wb") as f:
                for _ in range(size // (1 << 20)):
                    f.write(bytes(1 << 20))  # allocated: nobody measures the first touch
                f.flush()
                os.fsync(f.fileno())
            flags = ["--bsoflags", "sync"] if lun == 2 else []
            self._must("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", str(lun), "-b",
                       str(path), "--bstype", "rdwr", *flags)
        self._must("--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "2", "--params",
                   CACHING_PAGE_WCE_OFF)

    def _run(self, *arguments):
        return subprocess.run([self._admin, "-C", self._control, "--lld", "iscsi", *arguments],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=20, check=False).returncode

    def _must(self, *arguments):
        if self._run(*arguments) != 0:
            raise RuntimeError(f"tgtadm {' '.join(arguments)} failed")

    def url(self, lun):
        return f"iscsi://{self.address}:{PORT}/{IQN}/{lun}"

    def pids(self):
        return self._process.family()
