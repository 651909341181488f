"""Does what is installed fit together? And if not, the line that mends it.

torchrec checks neither the torch nor the fbgemm it runs on: a wrong pair fails with an undefined
symbol, and the CUDA build of fbgemm fails on a CPU torch.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import torch
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
"""For a CPU; on a GPU `pip install torch==2.13.0 torchrec==1.8.0` alone."""
ENGINE = ("torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu")
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
    return [
        _python(),
        *_engine(lookup),
        *(_import(module, importer) for module in ("torch", "fbgemm_gpu", "torchrec")),
        *_requirements(lookup),
        _machine(),
    ]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    remedy = "" if ok else "make clean; make setup PYTHON=python3.11"
    return Finding("python", platform.python_version(), ">= 3.11", ok, remedy)


def _engine(lookup: Lookup) -> list[Finding]:
    """Torch decides; fbgemm and torchrec must be the ones built for it."""
    torch_version = lookup("torch")
    if torch_version is None:
        return [Finding("torch", "not installed", "2.13", False, MEND)]
    minor = _minor(torch_version)
    partner = PAIRS.get(minor)
    wanted = f"one of {', '.join(PAIRS)}"
    findings = [Finding("torch", torch_version, wanted, partner is not None, _unless(partner))]
    fbgemm = lookup("fbgemm-gpu-cpu") or lookup("fbgemm-gpu")
    for name, found in (("fbgemm-gpu", fbgemm), ("torchrec", lookup("torchrec"))):
        ok = found is not None and partner is not None and _minor(found) == partner
        text = found or "not installed"
        findings.append(Finding(name, text, f"{partner or '?'} for torch {minor}", ok, _unless(ok)))
    return findings


def _unless(ok: object) -> str:
    return "" if ok else MEND


def _minor(text: str) -> str:
    parsed = Version(text)
    return f"{parsed.major}.{parsed.minor}"


def _import(module: str, importer: Importer) -> Finding:
    error = importer(module)
    if error is None:
        return Finding(f"import {module}", "works", "works", True)
    known = [meaning for sign, meaning in _SYMPTOMS.items() if sign in error]
    found = known[0] if known else error.splitlines()[-1]
    return Finding(f"import {module}", found, "works", False, MEND)


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


def _machine() -> Finding:
    capability = torch.backends.cpu.get_cpu_capability()
    found = f"{torch.get_num_threads()} threads, {capability}"
    if torch.cuda.is_available():
        found += f", {torch.cuda.get_device_name()}"
    return Finding("machine", found, "any", True)


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
