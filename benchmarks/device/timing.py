"""Time and memory of something that a device does, which the host does not wait for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.measure import Row, machine, own_peak_mib
from recsys.devices import is_host

_AT_ONCE = 5
"""Runs from one look at the clock to the next: a device is kept busy, as in training."""


def finish(device: torch.device) -> None:
    """Returns when the device has done all that it was asked for."""
    if not is_host(device):
        getattr(torch, device.type).synchronize()


def forget_peak(device: torch.device) -> None:
    """The peak of memory is measured from here on; on a CPU it is that of the process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float:
    """Most memory that tensors on the device have taken; on a CPU the process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / (1 << 20)
    return own_peak_mib()


@dataclass
class Clock:
    """Times variants one after another until the time given to all of them is over."""

    device: torch.device
    seconds: float
    """Of each timing."""
    until: float
    """By `time.monotonic`."""
    left_out: list[str] = field(default_factory=list)
    """What there was no time for."""

    def over(self, what: str) -> bool:
        """Whether there is no time for it any more; it is then kept among what was left out."""
        if time.monotonic() < self.until:
            return False
        self.left_out.append(what)
        return True

    def row(self, what: dict[str, object], make: Callable[[], Callable[[], object]]) -> Row | None:
        """Median milliseconds of one run and the peak of memory; None: there was no time.

        Args:
            what: is measured, as columns.
            make: makes what is run; what it holds is gone afterwards.
        """
        if self.over(", ".join(str(value) for value in what.values())):
            return None
        forget_peak(self.device)
        try:
            run = make()
            run()
            finish(self.device)
            times: list[float] = []
            began = time.monotonic()
            while not times or time.monotonic() - began < self.seconds:
                started = time.perf_counter()
                for _ in range(_AT_ONCE):
                    run()
                finish(self.device)
                times.append((time.perf_counter() - started) / _AT_ONCE)
        except torch.OutOfMemoryError:
            return {**what, "ms": "out of memory", "MiB": "out of memory"}
        return {**what, "ms": 1e3 * statistics.median(times), "MiB": peak_mib(self.device)}


def described(device: torch.device) -> dict[str, str]:
    """The machine, its device, and the versions of what computes there."""
    told = {**machine(), "device": str(device), "CUDA": str(torch.version.cuda)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    for package in ("triton", "numba"):
        try:
            told[package] = version(package)
        except PackageNotFoundError:
            told[package] = "not installed"
    return told
