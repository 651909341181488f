"""Findings of the doctor, by installed versions and by trial imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

Lookup = Callable[[str], str | None]
"""Package name -> installed version, or None."""
Importer = Callable[[str], str | None]
"""Module name -> None when it imports, else what it printed."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    found: str
    wanted: str
    ok: bool
    remedy: str = ""
    absent: bool = False
    """An extra that is not installed: nothing is wrong, and nothing of it works."""


def installed(package: str) -> str | None:
    """The installed version of a package, None when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def imports(module: str) -> str | None:
    """Imports a module in a process of its own, so that even a crash is only a finding."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    return done.stderr.strip() or f"the process ended with code {done.returncode}"
