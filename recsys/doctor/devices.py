"""Devices that torch sees, their memory, and what processes on them would talk by."""

from __future__ import annotations

import json
import subprocess
import sys

from recsys.doctor.finding import Finding, Lookup, installed

_LOOK = """
import json, torch
import torch.distributed as dist
from importlib.util import find_spec
cuda = torch.cuda.is_available()
count = torch.cuda.device_count() if cuda else 0
gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
print(json.dumps({
    "gpus": [[gpu.name, gpu.total_memory / 2**30] for gpu in gpus],
    "mps": torch.backends.mps.is_available(),
    "built": torch.version.cuda,
    "triton": bool(cuda and torch.version.cuda and find_spec("triton")),
    "nccl": bool(cuda and dist.is_available() and dist.is_nccl_available()),
}))
"""


def device_findings(lookup: Lookup = installed) -> list[Finding]:
    """One finding for each device, and one for what processes talk by; none without torch.

    They are information: a machine without a GPU is a good one. torch is asked in a process of its
    own.
    """
    if lookup("torch") is None:
        return []
    done = subprocess.run(
        [sys.executable, "-c", _LOOK], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return []  # why torch cannot be imported, another finding tells
    return told_devices(json.loads(done.stdout.splitlines()[-1]))


def told_devices(seen: dict[str, object]) -> list[Finding]:
    """The findings of what torch has told: `gpus` (name, GiB), `mps`, `built` (CUDA),
    `triton`, `nccl`.
    """
    gpus = seen["gpus"]
    assert isinstance(gpus, list)
    found = [
        Finding(f"cuda:{number}", f"{name}, {size:.0f} GiB", "any", True)
        for number, (name, size) in enumerate(gpus)
    ]
    if seen["mps"]:
        found.append(Finding("mps", "an Apple GPU", "any", True))
    if not found:
        built = f"torch is built for CUDA {seen['built']}" if seen["built"] else "a CPU torch"
        found = [Finding("device", f"cpu alone ({built})", "any", True)]
    paths = "numba's kernels on the CPU"
    if seen["triton"]:
        paths = f"Triton's for the softmax losses and torch's operations on a GPU, {paths}"
    elif gpus or seen["mps"]:
        paths = f"torch's operations on a GPU, {paths}"
    talk = "NCCL between GPUs, gloo" if seen["nccl"] else "gloo"
    return [
        *found,
        Finding("kernels", paths, "any", True),
        Finding("processes", f"talk by {talk}", "any", True),
    ]
