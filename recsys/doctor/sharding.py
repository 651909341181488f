"""Check that torch, fbgemm and torchrec, the packages of sharded tables, are compatible.

torchrec checks neither the torch nor the fbgemm it runs on: a wrong pair fails with an undefined
symbol, and the CUDA build of fbgemm fails on a CPU torch.
"""

from __future__ import annotations

from packaging.version import Version

from recsys.doctor.finding import Finding, Importer, Lookup

PAIRS = {"2.13": "1.8", "2.14": "1.9"}
"""torch -> the fbgemm and torchrec built for it."""
MEND = (
    "pip uninstall -y fbgemm-gpu fbgemm-gpu-cpu && "
    "pip install torch==2.13.0 torchrec==1.8.0 ./packaging/fbgemm-gpu-shim"
)
"""For a CPU, typed in a clone of the repository."""
MEND_CUDA = "pip install torch==2.13.0 fbgemm-gpu==1.8.0 torchrec==1.8.0"
"""Where the CUDA build of fbgemm is in use."""
_ENGINE = ("torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu")
_SYMPTOMS = {
    "libtorch_cuda": "the CUDA build of fbgemm-gpu on a CPU torch",
    "undefined symbol": "fbgemm-gpu was built for another torch",
    "fbgemm_gpu_config": "fbgemm-gpu was built for another torch",
    "No module named": "a package is missing",
}


def sharding_findings(lookup: Lookup, importer: Importer) -> list[Finding]:
    """Versions that fit, and trial imports; of torch alone where sharding is not installed."""
    mend = _mend(lookup)
    if any(lookup(name) for name in _ENGINE):
        modules = ("torch", "fbgemm_gpu", "torchrec")
        return [
            *_versions(lookup, mend),
            *(_import(module, importer, mend) for module in modules),
        ]
    return [_import("torch", importer, mend)] if lookup("torch") else []


def _mend(lookup: Lookup) -> str:
    """The line for the build in use: CUDA where the CUDA fbgemm stands alone, else CPU."""
    cuda = lookup("fbgemm-gpu")
    alone = cuda is not None and "shim" not in cuda and lookup("fbgemm-gpu-cpu") is None
    return MEND_CUDA if alone and "+cpu" not in (lookup("torch") or "") else MEND


def _versions(lookup: Lookup, mend: str) -> list[Finding]:
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
