"""Timing: each variant in turn, round by round, with medians and ratios."""

from __future__ import annotations

import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

Row = dict[str, Any]


class Score(NamedTuple):
    """A figure of a row that has an interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ±{(self.high - self.low) / 2:.4f}"


def in_turns(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant, `rounds` times, A B C A B C ..., after one round that is not kept.

    Turns, so that a machine that slows down slows all variants alike.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def as_rows(times: dict[str, list[float]], reference: str) -> list[Row]:
    """Median milliseconds, and the median of the ratios to the reference, round by round."""
    return [
        {
            "variant": name,
            "ms": 1e3 * statistics.median(values),
            "ratio": statistics.median(
                a / b for a, b in zip(values, times[reference], strict=True)
            ),
        }
        for name, values in times.items()
    ]


def peak_mib_of(module: str, *arguments: str) -> tuple[float, str]:
    """Peak memory in MiB of `python -m module arguments...` as a process, and what it printed."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; "
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True); "
        "from benchmarks.measure import own_peak_mib; print('PEAK', own_peak_mib())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, module, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.strip().splitlines()
    return float(last.split()[1]), "\n".join(printed)


def own_peak_mib() -> float:
    """Peak memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent as it was when it forked
        line = next(line for line in status.open() if line.startswith("VmHWM"))
        return float(line.split()[1]) / (1 << 10)
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine() -> dict[str, str]:
    """What a reader must know of where the figures come from."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.open() if "model name" in line]
        cpu = f"{len(names)} x {names[0]}" if names else cpu
    here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": False}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], **here).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **here).stdout.strip()
    return {
        "cpu": cpu,
        "threads": str(torch.get_num_threads()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "commit": commit + ("+" if changed else "") or "not in git",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "polars")},
    }
