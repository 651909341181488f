"""Processes of a distributed run: rank, shares of the work, exchange of messages.

A process started by itself is alone. Under torchrun (or anything else that sets RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT) it is one of many that run the same function; they talk by gloo, and
about tensors on GPUs by NCCL.

Every method that exchanges something must be called by all processes, in the same order.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.distributed.rendezvous import rendezvous

from recsys.errors import ConfigError, RecsysError, RunError
from recsys.progress import console

_FAILURE = "recsys/failure"
_HEARD = "recsys/heard"
_LAST_WORDS = 3.0
"""Seconds to wait for the reason of a process that is gone, and for all to have heard it."""
_LISTENING = 0.1
"""Seconds between two looks whether another process has failed."""
_PATIENCE = timedelta(minutes=30)
"""How long a process may wait for the others, as while the first one writes a large file."""


class _Store(Protocol):
    """A store that all processes can read and write, also after one of them has died."""

    def clone(self) -> _Store: ...
    def check(self, keys: list[str]) -> bool: ...
    def add(self, key: str, amount: int) -> int: ...
    def get(self, key: str) -> bytes: ...
    def compare_set(self, key: str, expected: str, desired: str) -> bytes: ...


class PeerError(RunError):
    """Another process of the run has failed, so this one stops too."""


@dataclass(frozen=True)
class Processes:
    """This process among those of its run."""

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes the files and speaks to the user."""
        return self.rank == 0

    def share(self, number: int, rank: int | None = None) -> tuple[int, int]:
        """The part `[lo, hi)` of `range(number)` that is a process's own; parts differ by one."""
        rank = self.rank if rank is None else rank
        return number * rank // self.world_size, number * (rank + 1) // self.world_size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dense = values.contiguous()  # gloo would read and write between the rows of a view
            dist.all_reduce(dense)
            if dense is not values:
                values.copy_(dense)
        return values

    def copy(self, values: Tensor) -> Tensor:
        """What the first process has, in place."""
        if self.world_size > 1:
            dense = values.contiguous()
            dist.broadcast(dense, 0)
            if dense is not values:
                values.copy_(dense)
        return values

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes have."""
        if self.world_size == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag: has any process raised it?"""
        if self.world_size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def gather(self, values: Tensor) -> list[Tensor]:
        """The tensors `[n, ...]` of all processes by rank; n may differ."""
        if self.world_size == 1:
            return [values]
        lengths = torch.zeros(self.world_size, dtype=torch.int64)
        lengths[self.rank] = len(values)
        dist.all_reduce(lengths)
        longest = int(lengths.max())
        padded = values.new_zeros(longest, *values.shape[1:])
        padded[: len(values)] = values
        received = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(received, padded)
        return [part[:n] for part, n in zip(received, lengths.tolist(), strict=True)]

    def tell(self, text: str) -> str:
        """The text of the first process, known to all of them."""
        if self.world_size == 1:
            return text
        spoken = list(text.encode()) if self.first else []
        size = torch.tensor(len(spoken))
        dist.broadcast(size, 0)
        heard = torch.zeros(int(size), dtype=torch.uint8)
        if self.first:
            heard = torch.tensor(spoken, dtype=torch.uint8)
        dist.broadcast(heard, 0)
        return bytes(heard.tolist()).decode()

    def wait(self) -> None:
        """Returns when all have come here."""
        if self.world_size > 1:
            dist.all_reduce(torch.zeros(1))  # a barrier would ask which GPU is meant


ALONE = Processes()


def is_first() -> bool:
    """Whether this process is the one that speaks to the user, also before or after a run."""
    return int(os.environ.get("RANK", "0")) == 0


def current() -> Processes:
    """The processes that have joined; `ALONE` where there are no others."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return ALONE


def ensure_group() -> None:
    """Makes this process a group of its own, if it is in none: engines ask for one. No port.

    Raises:
        ConfigError: there are other processes, and this one has not met them.
    """
    if dist.is_initialized():
        return
    if (others := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            f"WORLD_SIZE is {others}, but this process has not met the others; build what is "
            "spread over processes inside `with recsys.processes.joined():`"
        )
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)


@contextmanager
def joined() -> Iterator[Processes]:
    """Meets the other processes of the run; when one of them fails, all stop with its reason.

    Raises:
        PeerError: another process has failed; its reason, or that it went without a word.
        ConfigError: the environment names processes, but not how to meet them.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or current().world_size > 1:
        yield current()
        return
    store = _meet()
    processes = current()
    news = _News(store)
    console.quiet = not processes.first
    try:
        yield processes
    except BaseException as error:
        _explain(store, news, processes, error)
        raise
    finally:
        news.stop()
    processes.wait()  # nobody listens any more: the store may go
    dist.destroy_process_group()


class _News:
    """Receives the news of a failure at once, because its sender may die a moment later."""

    def __init__(self, store: _Store) -> None:
        self.reason: str | None = None
        self._store = store.clone()  # of its own: it asks while others talk
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while not self._over.wait(_LISTENING):
                if self._store.check([_FAILURE]):
                    self.reason = self._store.get(_FAILURE).decode()
                    self._store.add(_HEARD, 1)
                    return
        except (dist.DistError, RuntimeError):  # the store went down with another process
            return

    def stop(self) -> None:
        """Listens no longer."""
        self._over.set()
        self._thread.join()

    def within(self, seconds: float) -> str | None:
        """The reason, waited for."""
        deadline = time.monotonic() + seconds
        while self.reason is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.reason


def backends() -> str:
    """What processes talk by, for each kind of device, as torch.distributed names it."""
    if torch.cuda.is_available() and dist.is_nccl_available():
        return "cpu:gloo,cuda:nccl"
    return "gloo"


def _meet() -> _Store:
    try:
        store: Any
        store, rank, world_size = next(rendezvous("env://", timeout=_PATIENCE))
        dist.init_process_group(
            backends(), store=store, rank=rank, world_size=world_size, timeout=_PATIENCE
        )
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE asks for other processes, but {error}; start them with torchrun"
        ) from error
    shared: _Store = store
    return shared


def _explain(store: _Store, news: _News, processes: Processes, error: BaseException) -> None:
    """Leaves this process's reason for the others, or raises PeerError with theirs."""
    silent = _is_silence(error)
    found = news.within(_LAST_WORDS if silent else 0.0)
    if found is not None and not isinstance(error, RecsysError):
        raise PeerError(f"process {processes.rank} stops because {found}") from error
    if silent:
        raise PeerError(
            f"another process of the run ended without a message (killed, out of memory, or "
            f"disconnected); process {processes.rank} noticed it by:  {_one_line(error)}. Start "
            "all of them again "
            "with --resume"
        ) from error
    reason = f"process {processes.rank} failed with {type(error).__name__}: {error}"
    try:
        store.compare_set(_FAILURE, "", reason)
        deadline = time.monotonic() + _LAST_WORDS
        # The store may live in this very process: it stays until all have heard.
        while store.add(_HEARD, 0) < processes.world_size and time.monotonic() < deadline:
            time.sleep(0.02)
    except (dist.DistError, RuntimeError):  # the store went down with another process
        return


def _is_silence(error: BaseException) -> bool:
    """Is this how gloo says that a peer is gone or does not answer?"""
    text = str(error).lower()
    ours = isinstance(error, RecsysError) or not isinstance(error, RuntimeError)
    return not ours and any(
        word in text for word in ("gloo", "nccl", "connection", "timed out", "timeout", "socket")
    )


def _one_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
