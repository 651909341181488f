"""Memory of this process, and eviction of mapped pages.

Linux tells both in /proc.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path


def anonymous_bytes() -> int:
    """What the process holds that no file backs."""
    return 1024 * _field(Path("/proc/self/status"), "RssAnon")


def available_bytes() -> int:
    """What the machine can still give."""
    return 1024 * _field(Path("/proc/meminfo"), "MemAvailable")


def _field(path: Path, name: str) -> int:
    line = next(line for line in path.open() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def dropper(folders: Sequence[Path]) -> Callable[[], None]:
    """A call that takes pages of mapped files in `folders` out of the process and the page cache.

    posix_fadvise leaves pages that a process has mapped where they are, so they leave it first.
    Other processes must not have mapped these files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    regions = [found for found in map(_region, _maps()) if _lies_in(found[2], folders)]
    paths = sorted({path for _, _, path in regions})
    files = [os.open(path, os.O_RDONLY) for path in paths]

    def drop() -> None:
        for start, length, _ in regions:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)
        for file in files:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    return drop


def _maps() -> list[str]:
    """Read-only mappings: what is dropped of them is read again, never lost."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if " r--" in line and "/" in line]


def _region(line: str) -> tuple[int, int, str]:
    """Address, bytes and path."""
    edges, _, _, _, _, path = line.split(maxsplit=5)
    start, end = (int(edge, 16) for edge in edges.split("-"))
    return start, end - start, path


def _lies_in(path: str, folders: Sequence[Path]) -> bool:
    return any(Path(path).is_relative_to(folder.resolve()) for folder in folders)
