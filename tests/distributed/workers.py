"""Real processes for tests, forked from a server that has imported the engine once."""

import multiprocessing
import os
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.distributed.preloaded"])


class Group:
    """`world_size` processes that each call `function(*arguments)` as torchrun would have it."""

    def __init__(self, world_size: int, function: Any, *arguments: Any) -> None:
        port = free_port()
        self.processes, self.pipes = [], []
        for rank in range(world_size):
            ours, theirs = _context.Pipe()
            process = _context.Process(
                target=_call, args=(theirs, rank, world_size, port, function, arguments)
            )
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)

    def results(self, timeout: float = 100.0) -> list[Any]:
        """What each returned, by rank; an exception as (type, message, trace); killed: None."""
        found = []
        for pipe in self.pipes:
            assert pipe.poll(timeout), "a process neither ends nor fails"
            try:
                found.append(pipe.recv())
            except EOFError:
                found.append(None)
        for process in self.processes:
            process.join(timeout)
        return found


def run(world_size: int, function: Any, *arguments: Any) -> list[Any]:
    """The results of all processes; fails with the trace of one that failed."""
    found = Group(world_size, function, *arguments).results()
    for result in found:
        assert result is not None and result[0] == "returned", result[-1]
    return [result[1] for result in found]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(
    pipe: Connection, rank: int, world_size: int, port: int, function: Any, arguments: Any
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    try:
        pipe.send(("returned", function(*arguments)))
    except BaseException as error:
        pipe.send((type(error).__name__, str(error), traceback.format_exc()))
        sys.exit(1)
