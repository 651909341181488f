"""`python -m tests.faults 200 [FIRST]`: so many random faults, each told with what did not hold.

Everything is imported once; each command then runs in a process forked from this one, which
itself never starts a thread.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from recsys import study  # noqa: F401
from recsys.cli import app
from recsys.recipes.bundles import export, nest  # noqa: F401
from recsys.recipes.evaluating import bits, evaluate, report, tradeoff  # noqa: F401
from recsys.recipes.training import calibrate, cut, train  # noqa: F401
from tests.faults.injection import Fault
from tests.faults.project import (
    FIRST,
    VERBS,
    check_whole,
    kept,
    make_inputs,
    output_of,
)


class Project:
    """A project in a temporary folder, and what each verb makes of it when nothing goes wrong."""

    def __init__(self, place: Path) -> None:
        self.place, self.base = place, place / "base"
        self.base.mkdir()
        code, said = self.forked(lambda: make_inputs(self.base))
        assert code == 0, said
        for command in FIRST:
            code, said = self.call(self.base, command)
            assert code == 0, f"{command}: exit {code}\n{said}"
        self._expected: dict[str, tuple[int, dict[str, bytes | None]]] = {}

    def copy(self) -> Path:
        """Another one of it, at the same path: reports tell it."""
        folder = self.place / "work"
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(self.base, folder, symlinks=True)

    def expected(self, verb: str) -> tuple[int, dict[str, bytes | None]]:
        """Exit status and files."""
        if verb not in self._expected:
            folder = self.copy()
            code, said = self.call(folder, VERBS[verb])
            assert "Traceback" not in said, f"{verb}: {said}"
            self.check(folder, verb)
            self._expected[verb] = code, kept(folder)
        return self._expected[verb]

    def call(self, folder: Path, command: list[str], fault: Fault | None = None) -> tuple[int, str]:
        """Exit status (minus the signal, of a killed one) and what was printed."""
        return self.forked(lambda: _run(folder, command, fault))

    def check(self, folder: Path, what: str) -> None:
        """Everything in it is whole."""
        code, said = self.forked(lambda: check_whole(folder))
        assert code == 0, f"{what}: {said}"

    def forked(self, job: Callable[[], int | None]) -> tuple[int, str]:
        """Polars and torch do not live through a fork once they have worked: children work."""
        said, saying = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(saying, 1)
            os.dup2(saying, 2)
            os._exit(_guarded(job))
        os.close(saying)
        with os.fdopen(said, errors="replace") as stream:
            text = stream.read()
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), text


def _guarded(job: Callable[[], int | None]) -> int:
    code = 99
    try:
        code = job() or 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _run(folder: Path, command: list[str], fault: Fault | None) -> int:
    os.chdir(folder)
    sys.argv = ["recsys", *command]
    signal.alarm(300)  # a hang is a fault, too
    if fault is not None:
        fault.arm(folder)
    try:
        app(command)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def attempt(project: Project, seed: int) -> str:
    """One fault, and the same command after it; says what it was."""
    rng = Random(seed)
    verb = rng.choice(list(VERBS))
    fault, command = Fault.random(rng), VERBS[verb]
    code_then, files_then = project.expected(verb)
    folder, output = project.copy(), output_of(command)
    if fault.kind == "file" and output:
        shutil.rmtree(folder / output, ignore_errors=True)
        (folder / output).write_text("of the user")
    code, said = project.call(folder, command, fault)
    what = f"seed {seed}: {verb}, {fault.kind} after {fault.after}: exit {code}"
    assert "Traceback" not in said and "bug of recsys" not in said, f"{what}\n{said}"
    assert code in (0, 1) or (code == -signal.SIGKILL and fault.kind == "killed"), f"{what}\n{said}"
    if fault.kind == "file" and output:
        if (folder / output).is_file() and output != "table.json":
            assert (folder / output).read_text() == "of the user", what
        return what
    project.check(folder, what)
    again = [*command, "--resume"] if command[0] == "train" else command
    if command[0] in ("cut", "calibrate") and code == 0:
        return what
    code, said = project.call(folder, again)
    assert code == code_then, f"{what}, then {code}\n{said}"
    project.check(folder, what)
    _compare(kept(folder), files_then, what, again=code == 0 and command[0] in ("export", "nest"))
    return what


def _compare(found: dict, expected: dict, what: str, *, again: bool) -> None:
    """The same files, and nothing of dead writers; a bundle may have one version more."""
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    if again:
        more = {name for name in more if "/v0" not in name}
    assert not missing and not more, f"{what}: missing {sorted(missing)}, left {sorted(more)}"
    other = [name for name, data in expected.items() if found[name] != data]
    assert not other, f"{what}: other bytes in {other}"


def main(count: int, first: int) -> int:
    """How many did not hold."""
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        project = Project(Path(place).resolve())
        for seed in range(first, first + count):
            try:
                print("ok", attempt(project, seed), flush=True)
            except Exception as error:
                failed += 1
                print("FAILED", f"seed {seed}:", error, flush=True)
    return failed


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(min(99, main(numbers[0], numbers[1] if len(numbers) > 1 else 0)))
