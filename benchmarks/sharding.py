"""Cost of tables over processes: bytes and ranks of a step.
time and memory grow with the table.

python -m benchmarks.sharding RANK WORLD_SIZE PORT KINDS NUM_ROWS ROUNDS   one process of a group

Every size and sharding has processes of its own, on this machine. Bytes are counted where they are
handed to the collectives; what a process hands to itself is not counted.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import Row, own_peak_mib
from recsys.processes import Processes, joined
from recsys.tables.distributed.plan import ShardedConfig

SIZES = (8, 16, 32, 64)
LOOKUPS = 4_096
"""Rows that each process looks up in a step."""
KINDS = ("table_wise", "row_wise", "column_wise", "tier_aligned")
LIMIT = 1.5
"""How much longer a step may take at the largest size than at the smallest."""


class CountedBytes(TorchDispatchMode):
    """Bytes that this process sends to others through collectives: of whole numbers, of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = {"ids": 0, "vectors": 0}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "c10d" in str(function):
            size, floats = _sent(str(function), args)
            self.sent["vectors" if floats else "ids"] += size
        return function(*args, **(kwargs or {}))


def _sent(name: str, args: tuple[Any, ...]) -> tuple[int, bool]:
    """Bytes that a collective sends to other processes, and whether they are vectors."""
    world_size, rank = dist.get_world_size(), dist.get_rank()
    tensors = [x for arg in args for x in (arg if isinstance(arg, list) else [arg])]
    given = [x for x in tensors if isinstance(x, torch.Tensor)]
    floats = given[0].is_floating_point()
    if "alltoall_base" in name and args[4]:
        values, splits = args[1], args[4]
        return values.nbytes // max(1, len(values)) * (sum(splits) - splits[rank]), floats
    # Of the larger of input and output all but the own W-th; an all-reduce does it twice (a ring).
    away = max(x.nbytes for x in given) * (world_size - 1) // world_size
    return away * (2 if "allreduce" in name else 1), floats


def measure(sizes: tuple[int, ...], rounds: int) -> dict[str, list[Row]]:
    """Three tables: bytes by sharding, ranks by granularity, growth with the table."""
    traffic, touched = [], []
    for world_size in (2, 4):
        by_kind = _group(world_size, KINDS, min(sizes), 3)
        for number, kind in enumerate(KINDS):
            found = [parts[number] for parts in by_kind]
            traffic.append(
                {
                    "processes": world_size,
                    "sharding": kind,
                    "ids sent KiB": sum(part["ids"] for part in found) / 2**10 / world_size,
                    "vectors sent KiB": sum(part["vectors"] for part in found) / 2**10 / world_size,
                    "formula KiB": vectors_sent(kind, world_size) / 2**10,
                    "most held MiB": max(part["held"] for part in found) / 2**20,
                }
            )
            touched += [
                {
                    "processes": world_size,
                    "sharding": kind,
                    "coordinates": size,
                    "ranks touched": max(part["prefixes"][place]["ranks"] for part in found),
                    "moved KiB": sum(part["prefixes"][place]["received"] for part in found) / 2**10,
                }
                for place, size in enumerate(SIZES)
            ]
    return {
        f"bytes a process sends in a step of {LOOKUPS:,} lookups, D = {SIZES[-1]}": traffic,
        "lookups without gradient: ranks touched, and bytes that all of them move": touched,
        "step time by rows (rowwise_adagrad)": growth(sizes, rounds),
    }


def vectors_sent(kind: str, world_size: int) -> float:
    """Bytes of vectors and of their gradients that a process sends in a step, on average."""
    away = (world_size - 1) / world_size
    # Row-wise, every process answers for every bag (zeros too) before sums are scattered.
    answers = world_size if kind == "row_wise" else 1
    return 4 * LOOKUPS * SIZES[-1] * away * 2 * answers


def growth(sizes: tuple[int, ...], rounds: int) -> list[Row]:
    """Step time of one and of two processes as the table grows."""
    rows: list[Row] = []
    for world_size in (1, 2):
        base = None
        for num_rows in sizes:
            found = [part for (part,) in _group(world_size, ("tier_aligned",), num_rows, rounds)]
            milliseconds = statistics.median(part["ms"] for part in found)
            base = base or milliseconds
            table = max(part["held"] + part["state"] for part in found) / 2**20
            peak = max(part["peak"] for part in found)
            rows.append(
                {
                    "processes": world_size,
                    "rows": num_rows,
                    "ms": milliseconds,
                    "ratio": milliseconds / base,
                    "within": milliseconds / base < LIMIT,
                    "peak MiB": peak,
                    "table MiB": table,
                    "rest MiB": peak - table,
                }
            )
    return rows


def _group(
    world_size: int, kinds: tuple[str, ...], num_rows: int, rounds: int
) -> list[list[dict[str, Any]]]:
    """Runs processes of this file; what each has measured of every sharding."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.sharding"),
                *(str(x) for x in (rank, world_size, port, ",".join(kinds), num_rows, rounds)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world_size)
    ]
    found = []
    for process in started:
        printed, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors)
        found.append(json.loads(printed.splitlines()[-1]))
    return found


def main(kinds: list[str], num_rows: int, rounds: int) -> None:
    """One process: prints what it has measured as a line of JSON."""
    torch.set_num_threads(1)
    with joined() as processes:
        found = [_measured(kind, num_rows, rounds, processes) for kind in kinds]
        processes.wait()
    print(json.dumps(found))


def _measured(kind: str, num_rows: int, rounds: int, processes: Processes) -> dict[str, Any]:
    from recsys.tables.distributed.sharded import ShardedTable  # takes seconds: not in the parent

    config = ShardedConfig.model_validate({"sharding": kind})
    table = ShardedTable(config, num_rows, SIZES[-1], init_std=0.02, sizes=SIZES)
    rng = np.random.default_rng(processes.rank)
    # Some rows in every step, most of them rarely, as items are.
    draws = [torch.from_numpy(num_rows * rng.random(LOOKUPS) ** 3).long() for _ in range(16)]

    def step(number: int) -> None:
        table(draws[number % len(draws)]).square().mean().backward()

    milliseconds = _timed(step, rounds, processes.wait)
    with CountedBytes() as counted:
        step(0)
    return {
        "ms": milliseconds,
        **counted.sent,
        "prefixes": [_prefix(table, draws[0], size) for size in SIZES],
        "held": sum(block.nbytes for block in table.blocks.values()),
        "state": sum(sums.nbytes for sums in table._sums.values()),
        "peak": own_peak_mib(),
    }


def _timed(step: Callable[[int], None], rounds: int, wait: Callable[[], None]) -> float:
    """Median milliseconds of a step that all processes begin together."""
    times = []
    for number in range(rounds + 3):
        wait()
        started = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[3:])


def _prefix(table: Any, rows: torch.Tensor, size: int) -> Row:
    with torch.no_grad():
        table(rows, size=size)
    reading = table.exchange.last
    return {"ranks": len(reading.ranks), "received": reading.received}


if __name__ == "__main__":
    rank, world, port = sys.argv[1:4]
    os.environ.update(RANK=rank, WORLD_SIZE=world, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    main(sys.argv[4].split(","), int(sys.argv[5]), int(sys.argv[6]))
