"""Check of the installation: versions that conflict, missing extras, and the commands to fix them.

Nothing that may be broken is imported into this process: a doctor must survive its patient.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from recsys.doctor.devices import device_findings
from recsys.doctor.finding import Finding, Importer, Lookup, imports, installed
from recsys.doctor.packages import core_findings, extra_findings
from recsys.doctor.sharding import MEND, MEND_CUDA, sharding_findings

__all__ = [
    "MEND",
    "MEND_CUDA",
    "Finding",
    "device_findings",
    "diagnose",
    "extra_findings",
    "imports",
    "installed",
]

_SPEED = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
"""CPU features that matrix products use: bf16 training pays with the last three only."""


def diagnose(lookup: Lookup = installed, importer: Importer = imports) -> list[Finding]:
    """Looks at Python, the packages of the core and of sharded tables, the machine.

    Args:
        lookup: tells versions; another one is given in tests.
        importer: tries imports; another one is given in tests.
    """
    return [
        _python(),
        *core_findings(lookup),
        *sharding_findings(lookup, importer),
        _machine(),
    ]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    remedy = "" if ok else "make clean; make setup PYTHON=python3.11"
    return Finding("python", platform.python_version(), ">= 3.11", ok, remedy)


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
