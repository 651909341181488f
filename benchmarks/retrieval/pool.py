"""Measuring processes, one for each search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.retrieval.memory import available_bytes
from benchmarks.retrieval.vectors import Vectors
from benchmarks.retrieval.way import Way

_PROCESS = 600 << 20
"""Bytes of Python and its libraries, and room for the searches."""
_TAIL = 1500


class WorkerError(Exception):
    """A process ended; its last words are the message."""


@dataclass
class Pool:
    """Asks ways by name; a way that stands in the way of another is closed and opened again."""

    vectors: Vectors
    ways: dict[str, Way]
    threads: int
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """The one that was asked last is last."""

    def ask(self, name: str, do: str, **options: Any) -> dict[str, Any]:
        """What `worker.Worker` answers.

        Raises:
            WorkerError: the process ended instead.
        """
        process = self.running.pop(name, None) or self._open(name)
        self.running[name] = process
        assert process.stdin and process.stdout
        try:
            print(json.dumps({"do": do} | options), file=process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended(name) from None
        if not (line := process.stdout.readline()):
            raise self._ended(name)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def build(self, name: str) -> None:
        """In a process of its own.

        Raises:
            WorkerError: it failed.
        """
        with _log(self.vectors, name).open("w") as log:
            done = subprocess.run([*self._command(name), "--build"], **self._options(log))
        if done.returncode:
            raise self._ended(name)

    def close(self, names: Sequence[str] | None = None) -> None:
        """Ends these processes; None: all."""
        for name in tuple(self.running) if names is None else names:
            process = self.running.pop(name)
            assert process.stdin
            process.stdin.close()
            process.wait()

    def _open(self, name: str) -> subprocess.Popen[str]:
        wanted = self.ways[name].item_bytes(self.vectors.dim) * self.vectors.card["num_items"]
        while self.running and available_bytes() < 1.5 * wanted + _PROCESS:
            self.close([next(iter(self.running))])
        with _log(self.vectors, name).open("w") as log:
            return subprocess.Popen(
                self._command(name),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                **self._options(log),
            )

    def _command(self, name: str) -> list[str]:
        here = (str(self.vectors.folder), name, str(self.threads))
        return [sys.executable, "-m", "benchmarks.retrieval.worker", *here]

    def _options(self, log: IO[str]) -> dict[str, Any]:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        return {"stderr": log, "text": True, "env": environment}

    def _ended(self, name: str) -> WorkerError:
        self.running.pop(name, None)
        return WorkerError(_log(self.vectors, name).read_text()[-_TAIL:].strip())


def _log(vectors: Vectors, name: str) -> Path:
    return vectors.folder / f"{name}.log"
