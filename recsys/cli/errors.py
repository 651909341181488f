"""Errors of verbs: one message on stderr, a trace as well with --debug, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

import typer

from recsys.console import make_console
from recsys.errors import RecsysError
from recsys.extras import missing_import
from recsys.files.system_errors import explain

debug = ContextVar("debug", default=False)
"""Whether traces are shown."""


def explained(function: Callable[..., None]) -> Callable[..., None]:
    """The verb, with its errors told in words."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            _flush()
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # of the command line itself: typer tells them
        except Exception as error:
            _tell(error)
            code = error.exit_code if isinstance(error, RecsysError) else 1
            raise typer.Exit(code) from error

    return run


def _flush() -> None:
    """Writes what was printed while an error of it can be told."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try again when it ends, and print a trace.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "standard output"
        raise


def _tell(error: Exception) -> None:
    from rich.text import Text

    if debug.get():
        traceback.print_exception(error)
    text = Text.assemble(("error: ", "bold red"), _words(error))
    make_console(stderr=True).print(text, soft_wrap=True)


def _words(error: Exception) -> str:
    if isinstance(error, RecsysError):
        return str(error)
    if isinstance(error, ImportError) and (known := missing_import(error)):
        return str(known)
    if isinstance(error, MemoryError):
        return f"memory is short ({error or 'no more could be had'}); free some, or take less data"
    if isinstance(error, OSError) and error.errno is not None:
        return explain(error)
    return (
        f"{type(error).__name__}: {error}. This is a fault of recsys: please report it to its "
        "maintainers, with the command and what it prints with --debug"
    )
