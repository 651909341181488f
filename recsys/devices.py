"""Devices: the choice of one by its name, and the way of arrays from the host to it.

The name is chosen once, by who starts something (`device` of a run config or of a verb). A model
lives on its device, and whatever is made for it is made there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.errors import ConfigError, RunError

AUTO = "auto"
HOST = torch.device("cpu")
_NAMES = re.compile(r"(auto|cpu|mps|cuda(:\d+)?)")


def checked_name(name: str) -> str:
    """The name of a device, if it is one; whether this machine has it is asked by `find_device`.

    Raises:
        ConfigError: it names none.
    """
    if not _NAMES.fullmatch(name) and name.partition(":")[0] != _from_outside():
        raise ConfigError(
            f"device {name!r} is unknown; choose auto, cpu, cuda, cuda:1 (the second GPU) or mps"
        )
    return name


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: auto: a GPU where torch sees one, else the CPU. Of several processes on one machine
            (torchrun) each takes a GPU of its own for `auto` and `cuda`.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    kind, _, number = checked_name(name).partition(":")
    if kind == AUTO:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind == "cpu" and torch.backends.mps.is_available():
            kind = "mps"
    if kind == "cuda":
        return _gpu(name, number or os.environ.get("LOCAL_RANK", "0"))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            f"device {name}: torch {torch.__version__} sees no Apple GPU here; choose device=cpu"
        )
    return torch.device(name if kind not in ("cpu", "mps") else kind)


def _gpu(name: str, number: str) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        built = "sees no GPU" if torch.version.cuda else "is built without CUDA"
        raise ConfigError(
            f"device {name}: torch {torch.__version__} {built}; choose device=cpu, or see "
            "`recsys doctor`"
        )
    if int(number) >= count:
        known = ", ".join(f"cuda:{each}" for each in range(count))
        raise ConfigError(f"device {name}: there is no GPU {number}; this machine has {known}")
    return torch.device("cuda", int(number))


def _from_outside() -> str | None:
    """The device that a package has added to torch; None: there is none."""
    found: str = torch._C._get_privateuse1_backend_name()
    return None if found == "privateuseone" else found


def is_host(device: torch.device) -> bool:
    """Whether arrays of numpy are in its memory."""
    return device.type == "cpu"


def on_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device; on the CPU it is the same memory.

    To a GPU it goes by way of pinned memory, so that the host does not wait for the copy.
    """
    tensor = torch.from_numpy(array)
    if is_host(device):
        return tensor
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_indices(numbers: npt.NDArray[np.integer], device: torch.device = HOST) -> Tensor:
    """int64, copied: torch would write to the arrays of histories, which are read-only."""
    return on_device(numbers.astype(np.int64), device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; 0 where it does not tell (mps), and for the CPU."""
    module = None if is_host(device) else getattr(torch, device.type, None)
    if module is None or not hasattr(module, "mem_get_info"):
        return 0
    free, _ = module.mem_get_info(device)
    return int(free)


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the parameters of a module are; the CPU, if it has none."""
    first = next(module.parameters(), None)
    return HOST if first is None else first.device


@contextmanager
def memory_told(device: torch.device, advice: str) -> Iterator[None]:
    """Says what helps where the memory of a device is not enough.

    Raises:
        RunError: it was not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{device} has too little memory ({first}); {advice}") from error


@contextmanager
def reading(model: object) -> Iterator[None]:
    """For what is computed of a trained model: without gradients, and with what helps where the
    memory of its device is not enough.

    Raises:
        RunError: it was not.
    """
    device = getattr(model, "device", HOST)
    advice = "read the model on the CPU: --device cpu, or device='cpu' in Python"
    with torch.inference_mode(), memory_told(device, advice):
        yield
