"""CPU and memory of a process, from /proc, and a description of the machine."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PACKAGES: Final = ("kopf", "aiohttp", "boto3")


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB. `peak` is the greatest resident size so far; `proportional` counts shared pages by their share."""

    resident: float
    proportional: float
    peak: float


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    # The name of the program, in brackets, may contain blanks.
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    sizes = _kilobytes(f"/proc/{pid}/smaps_rollup")
    peak = _kilobytes(f"/proc/{pid}/status")["VmHWM"]
    return Memory(sizes["Rss"] / 1024, sizes["Pss"] / 1024, peak / 1024)


def files(pid: int) -> int:
    """The number of open files, including sockets and pipes."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def children() -> dict[str, int]:
    """Process ids of this process's children, by the module or program that they run."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text("utf-8").split():
            words = Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")
            name = words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name
            found[name] = int(pid)
    return found


def _kilobytes(file: str) -> dict[str, int]:
    lines = (line.split() for line in Path(file).read_text("utf-8").splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}


def machine() -> dict[str, str]:
    """Return the processor and the versions of Python and the libraries."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": processor,
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "libraries": versions,
    }


def load() -> float:
    """Runnable processes on average in the last minute, before the bench adds its own."""
    return os.getloadavg()[0]
