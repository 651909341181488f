import io
import subprocess
import sys

import pytest
from rich.console import Console

from recsys.doctor import MEND, MEND_CUDA, diagnose, imports, installed, print_findings

GOOD = {
    "torch": "2.13.0+cpu",
    "fbgemm-gpu-cpu": "1.8.0",
    "fbgemm-gpu": "1.8.0+cpu.shim",
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


def test_a_cuda_build_is_mended_by_a_cuda_build_unless_torch_is_for_cpu():
    cuda = {"torch": "2.13.0", "fbgemm-gpu": "1.9.0", "torchrec": "1.8.0"}
    assert findings_of(cuda)["fbgemm-gpu"].remedy == MEND_CUDA
    assert findings_of({**cuda, "torch": "2.13.0+cpu"})["fbgemm-gpu"].remedy == MEND
    broken = {"fbgemm_gpu": "OSError: libtorch_cuda.so: cannot open shared object file"}
    assert findings_of(cuda, broken)["import fbgemm_gpu"].remedy == MEND


def test_a_package_outside_its_range_is_named_with_its_own_line():
    def lookup(name):
        return "1.26.4" if name == "numpy" else GOOD.get(name) or installed(name)

    wrong = [finding for finding in diagnose(lookup, lambda module: None) if not finding.ok]
    assert [finding.name for finding in wrong] == ["numpy"]
    assert wrong[0].found == "1.26.4" and wrong[0].remedy.startswith("pip install 'numpy")


def test_a_process_that_crashes_on_import_is_only_a_finding(tmp_path, monkeypatch):
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert imports("crashes") == "the process ended with code -6"


def test_the_doctor_itself_imports_without_torch():
    code = "import sys; sys.modules['torch'] = None; import recsys.doctor"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
