"""Other clocks for whole processes: a wall clock that is set, a boot at another time.

This machine's own clocks are left alone.
"""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("wall_clock.c")
_SET = struct.Struct("=qq")
_NS = 1_000_000_000


class WallClock:
    """A wall clock of their own for the processes that are started with `env`.

    It shows what the machine's does until it is set. So do the kernel's receive stamps.
    """

    def __init__(self, folder: Path) -> None:
        """Needs a C compiler; what is compiled and told goes to `folder`."""
        folder.mkdir(exist_ok=True)
        self._file = folder / "set"
        self._file.write_bytes(_SET.pack(0, 0))
        library = folder / "wall_clock.so"
        words = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library)]
        subprocess.run([*words, str(_SOURCE), "-ldl"], check=True)
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "WALL_CLOCK_FILE": str(self._file),
        }

    def step(self, seconds: float) -> None:
        """Set it now, by so much, from what the machine's shows."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(_SET.pack(time.time_ns(), round(seconds * _NS)))


def booted_ago(seconds: int) -> tuple[str, ...]:
    """What to put before a command for which the machine was started that much earlier."""
    return ("unshare", "--time", "--boottime", str(seconds), "--monotonic", str(seconds), "--")


def can_boot_at_another_time() -> bool:
    """Whether this kernel has time namespaces that begin by exec, and we may make one."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    words = [*booted_ago(1_000_000), "cat", "/proc/uptime"]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    return told.returncode == 0 and float(told.stdout.split()[0]) > 1_000_000
