"""Does what is installed fit together? And if not, the line that mends it.

torchrec checks neither the torch nor the fbgemm it runs on: a wrong pair fails with an undefined
symbol, and the CUDA build of fbgemm fails on a CPU torch. Nothing that may be broken is imported
into this process: a doctor must survive its patient.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from rich.console import Console
from rich.table import Table
from rich.text import Text

PAIRS = {"2.13": "1.8", "2.14": "1.9"}
"""torch -> the fbgemm and torchrec built for it."""
MEND = (
    "pip uninstall -y fbgemm-gpu fbgemm-gpu-cpu && "
    "pip install torch==2.13.0 torchrec==1.8.0 ./packaging/fbgemm-gpu-shim"
)
"""For a CPU, typed in a clone of the repository."""
MEND_CUDA = "pip install torch==2.13.0 fbgemm-gpu==1.8.0 torchrec==1.8.0"
"""Where the CUDA build of fbgemm is in use."""
ENGINE = ("torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu")
_SPEED = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
"""CPU features that matrix products use: bf16 training pays with the last three only."""
_SYMPTOMS = {
    "libtorch_cuda": "the CUDA build of fbgemm-gpu on a CPU torch",
    "undefined symbol": "fbgemm-gpu was built for another torch",
    "fbgemm_gpu_config": "fbgemm-gpu was built for another torch",
    "No module named": "a package is missing",
}

Lookup = Callable[[str], str | None]
"""Package name -> installed version, or None."""
Importer = Callable[[str], str | None]
"""Module name -> None when it imports, else what it printed."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    found: str
    wanted: str
    ok: bool
    remedy: str = ""


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


def diagnose(lookup: Lookup = installed, importer: Importer = imports) -> list[Finding]:
    """Looks at Python, the engine (torch, fbgemm, torchrec), the other packages, the machine.

    Args:
        lookup: tells versions; another one is given in tests.
        importer: tries imports; another one is given in tests.
    """
    mend = _mend(lookup)
    return [
        _python(),
        *_engine(lookup, mend),
        *(_import(module, importer, mend) for module in ("torch", "fbgemm_gpu", "torchrec")),
        *_requirements(lookup),
        _machine(),
    ]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    remedy = "" if ok else "make clean; make setup PYTHON=python3.11"
    return Finding("python", platform.python_version(), ">= 3.11", ok, remedy)


def _mend(lookup: Lookup) -> str:
    """The line for the build in use: CUDA where the CUDA fbgemm stands alone, else CPU."""
    cuda = lookup("fbgemm-gpu")
    alone = cuda is not None and "shim" not in cuda and lookup("fbgemm-gpu-cpu") is None
    return MEND_CUDA if alone and "+cpu" not in (lookup("torch") or "") else MEND


def _engine(lookup: Lookup, mend: str) -> list[Finding]:
    """Torch decides; fbgemm and torchrec must be the ones built for it."""
    torch_version = lookup("torch")
    if torch_version is None:
        return [Finding("torch", "not installed", "2.13", False, mend)]
    minor = _minor(torch_version)
    partner = PAIRS.get(minor)
    wanted = f"one of {', '.join(PAIRS)}"
    findings = [
        Finding("torch", torch_version, wanted, partner is not None, "" if partner else mend)
    ]
    fbgemm = lookup("fbgemm-gpu-cpu") or lookup("fbgemm-gpu")
    for name, found in (("fbgemm-gpu", fbgemm), ("torchrec", lookup("torchrec"))):
        ok = found is not None and partner is not None and _minor(found) == partner
        text = found or "not installed"
        wanted = f"{partner or '?'} for torch {minor}"
        findings.append(Finding(name, text, wanted, ok, "" if ok else mend))
    return findings


def _minor(text: str) -> str:
    parsed = Version(text)
    return f"{parsed.major}.{parsed.minor}"


def _import(module: str, importer: Importer, mend: str) -> Finding:
    error = importer(module)
    if error is None:
        return Finding(f"import {module}", "works", "works", True)
    known = [meaning for sign, meaning in _SYMPTOMS.items() if sign in error]
    found = known[0] if known else error.splitlines()[-1]
    # Without that library torch is a CPU build, whatever fbgemm is.
    remedy = MEND if "libtorch_cuda" in error else mend
    return Finding(f"import {module}", found, "works", False, remedy)


def _requirements(lookup: Lookup) -> list[Finding]:
    """The other base packages against what this package asks for."""
    findings = []
    for line in requires("recsys") or []:
        need = Requirement(line)
        if need.name in ENGINE or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        found = lookup(need.name)
        ok = found is not None and need.specifier.contains(found, prereleases=True)
        remedy = "" if ok else f"pip install '{need.name}{need.specifier}'"
        findings.append(
            Finding(need.name, found or "not installed", str(need.specifier) or "any", ok, remedy)
        )
    return findings


def _machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Cores this process may use and what the CPU can do: information, never wrong."""
    pinned = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count()
    found = [f"{cores} cores", platform.machine()]
    if "OMP_NUM_THREADS" in os.environ:
        found.append(f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}")
    if cpuinfo.is_file():
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
        found += [flag for flag in _SPEED if flag in words]
    return Finding("machine", ", ".join(found), "any", True)


def print_findings(findings: list[Finding], console: Console) -> None:
    """A table of everything, then each remedy on a line of its own to copy."""
    table = Table("what", "found", "wanted", "", box=None, pad_edge=False, header_style="dim")
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("wrong", "bold red")
        table.add_row(finding.name, finding.found, finding.wanted, mark)
    console.print(table)
    remedies = dict.fromkeys(finding.remedy for finding in findings if finding.remedy)
    if remedies:
        console.print("\nto mend it:", style="bold")
        for remedy in remedies:
            console.print(Text(f"  {remedy}"), soft_wrap=True)
