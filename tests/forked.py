"""Processes for tests that start at once: forked from one that has imported the package.

A process of its own takes seconds to import torch and the package, and tests of kills start dozens.
Here one server imports everything, and never computes or starts a thread (polars and torch do not
live through a fork once they have worked); what it forks runs `-m module words` or `-c code words`
as Python would, and is killed and waited for like any other process.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Child:
    """A running process; what it prints goes to files."""

    def __init__(self, *words: object, env: dict[str, str] | None = None) -> None:
        """`words` as Python takes them: `-m` and a module, or `-c` and code; then its arguments."""
        self._folder = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self._folder.name) / name for name in ("out", "err"))
        self.returncode: int | None = None
        told = {"words": [str(word) for word in words], "env": env or {}}
        self.pid: int = _ask({**told, "out": str(self.out), "err": str(self.err)})

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self.out.read_text() if self.out.is_file() else ""

    @property
    def stderr(self) -> str:
        """Likewise."""
        return self.err.read_text() if self.err.is_file() else ""

    def poll(self) -> int | None:
        """Its exit code, minus the signal of a killed one; None: it runs."""
        return self._ended(block=False)

    def wait(self) -> int:
        """Waits for its end."""
        code = self._ended(block=True)
        assert code is not None
        return code

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal, and waits for the end."""
        assert self.poll() is None, f"it ended before it could be killed: {self.stderr}"
        os.kill(self.pid, number)
        return self.wait()

    def _ended(self, *, block: bool) -> int | None:
        if self.returncode is None:
            self.returncode = _ask({"wait": self.pid, "block": block})
        return self.returncode


def run(*words: object, env: dict[str, str] | None = None) -> Child:
    """A process that has ended."""
    child = Child(*words, env=env)
    child.wait()
    return child


def _ask(told: dict) -> int | None:
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(told) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, "the server of forked processes has ended"
    return json.loads(answer)


@cache
def _server() -> subprocess.Popen:
    """One for each process of tests; it ends with it, as its input does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.forked"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _serve() -> None:
    """Answers each line: the id of a process that it forks, or how one has ended."""
    running = set()
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            ended, status = os.waitpid(told["wait"], 0 if told["block"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            running.discard(ended)
        else:
            answer = os.fork()
            if not answer:
                _become(told)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for left in running:  # of tests that failed
        os.kill(left, signal.SIGKILL)


def _become(told: dict) -> None:
    """Runs what is asked for in this process, and ends it."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, told["out"], os.O_WRONLY | os.O_CREAT),
        (2, told["err"], os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(path, flags, 0o600), number)
    os.environ.update(told["env"])
    code = 1
    try:
        code = _code_of(told["words"])
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _code_of(words: list[str]) -> int:
    kind, what, *rest = words
    sys.argv = [what if kind == "-m" else "-c", *rest]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<test>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    import data_prep  # noqa: F401
    import recsys.cli
    import recsys.recipes.bundles.push
    import recsys.recipes.evaluating.evaluate
    import recsys.recipes.training.train
    import recsys.recipes.training.tune
    import recsys.studies  # noqa: F401

    os.fsync = lambda descriptor: None  # as in conftest.py
    _serve()
