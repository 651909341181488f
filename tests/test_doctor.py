import io

import pytest
from rich.console import Console

from recsys.doctor import MEND, diagnose, installed, print_findings

GOOD = {
    "torch": "2.13.0+cpu",
    "fbgemm-gpu-cpu": "1.8.0",
    "fbgemm-gpu": "1.8.0",
    "torchrec": "1.8.0",
}


def findings_of(versions=GOOD, errors=None):
    def lookup(name):
        known = ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu")
        return versions.get(name) if name in known else installed(name)

    found = diagnose(lookup, lambda module: (errors or {}).get(module))
    return {finding.name: finding for finding in found}


def test_what_fits_is_found_to_fit():
    findings = findings_of()
    assert all(finding.ok for finding in findings.values())
    assert {"torch", "fbgemm-gpu", "torchrec", "polars", "machine"} <= set(findings)


@pytest.mark.parametrize(
    ("name", "version"),
    [("torchrec", "1.9.0"), ("torchrec", None), ("fbgemm-gpu-cpu", "1.7.0"), ("torch", "2.12.1")],
)
def test_a_mismatch_prints_the_line_that_mends_it(name, version):
    findings = findings_of({**GOOD, name: version})
    wrong = [finding for finding in findings.values() if not finding.ok]
    assert wrong and all(finding.remedy == MEND for finding in wrong)
    stream = io.StringIO()
    print_findings(list(findings.values()), Console(file=stream, width=100))
    assert MEND in stream.getvalue() and "wrong" in stream.getvalue()


def test_the_newer_pair_is_known_too():
    newer = {"torch": "2.14.0", "fbgemm-gpu": "1.9.0", "torchrec": "1.9.1"}
    findings = findings_of(newer)
    assert all(findings[name].ok for name in ("torch", "fbgemm-gpu", "torchrec"))


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("OSError: libtorch_cuda.so: cannot open shared object file", "CUDA build"),
        ("ImportError: x.so: undefined symbol: _ZN3c10", "built for another torch"),
        ("ModuleNotFoundError: No module named 'torchrec'", "a package is missing"),
        ("the process ended with code -6", "code -6"),
    ],
)
def test_known_import_failures_are_told_apart(error, meaning):
    finding = findings_of(errors={"torchrec": error})["import torchrec"]
    assert not finding.ok and meaning in finding.found and finding.remedy == MEND


def test_torch_itself_may_be_missing():
    assert not findings_of({})["torch"].ok


def test_the_installed_engine_really_imports():
    findings = {finding.name: finding for finding in diagnose()}
    for module in ("torch", "fbgemm_gpu", "torchrec"):
        assert findings[f"import {module}"].ok, findings[f"import {module}"].found
