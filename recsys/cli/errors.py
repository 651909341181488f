"""Errors of verbs: a message on stderr, a traceback with --debug, and the exit code."""

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
"""Whether tracebacks are shown."""


def explained(function: Callable[..., None]) -> Callable[..., None]:
    """The verb, with its errors printed as messages."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            _flush()
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # errors of the command line itself: typer prints them
        except Exception as error:
            _tell(error)
            code = error.exit_code if isinstance(error, RecsysError) else 1
            raise typer.Exit(code) from error

    return run


def _flush() -> None:
    """Writes the printed text, so that an error of writing becomes a message."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would write again at its end, and print a traceback.
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
        return f"out of memory ({error or 'an allocation failed'}); free memory, or use less data"
    if isinstance(error, OSError) and error.errno is not None:
        return explain(error)
    return (
        f"{type(error).__name__}: {error}. This is a bug of recsys: please report it to its "
        "maintainers, with the command and its output under --debug"
    )
