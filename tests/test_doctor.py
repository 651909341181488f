import io
import subprocess
import sys

import pytest
from rich.console import Console

from recsys.doctor import MEND, MEND_CUDA, diagnose, extra_findings, imports, installed
from recsys.doctor.devices import device_findings, told_devices
from recsys.doctor.printing import print_findings
from recsys.extras import EXTRAS

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


def test_torch_may_be_missing_unless_torchrec_asks_for_it():
    assert "torch" not in findings_of({})
    alone = findings_of({"torchrec": "1.8.0"})["torch"]
    assert not alone.ok and alone.remedy == MEND


def test_torch_without_torchrec_is_tried_and_need_not_fit_it():
    findings = findings_of({"torch": "2.99.0"})
    assert findings["import torch"].ok and "torch" not in findings


def extras_of(changes):
    found = extra_findings(lambda name: changes[name] if name in changes else installed(name))
    return {finding.name: finding for finding in found}


def test_every_extra_is_listed_with_what_it_is_for():
    assert {name: finding.wanted for name, finding in extras_of({}).items()} == {
        name: known.purpose for name, known in EXTRAS.items()
    }


def test_an_extra_that_is_not_installed_is_no_fault_and_has_a_line_that_adds_it():
    report = extras_of({"jinja2": None})["report"]
    assert report.ok and report.absent and report.found == "missing: jinja2"
    stream = io.StringIO()
    print_findings([], Console(file=stream, width=100), [report])
    assert "to add an extra:\n  pip install 'recsys[report]'" in stream.getvalue()
    assert "to fix it" not in stream.getvalue()


def test_an_extra_of_another_version_is_wrong_and_has_a_line_that_mends_it():
    report = extras_of({"matplotlib": "3.1.0"})["report"]
    assert not report.ok and report.found.startswith("matplotlib 3.1.0 is not >=3")
    stream = io.StringIO()
    print_findings([], Console(file=stream, width=100), [report])
    assert "to fix it:\n  pip install 'recsys[report]'" in stream.getvalue()


def test_extras_that_name_others_need_those_too():
    missing = extras_of({"scipy": None})
    assert {name for name, found in missing.items() if "scipy" in found.found} == {
        *("train", "baselines", "export", "cluster", "shard", "tune")
    }


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


def test_devices_their_memory_and_how_processes_talk_are_told():
    machine = {"gpus": [["A", 79.6], ["B", 15.0]], "mps": False, "built": "13.0", "nccl": True}
    machine["triton"] = True
    found = {finding.name: finding.found for finding in told_devices(machine)}
    assert found["cuda:0"] == "A, 80 GiB" and found["cuda:1"] == "B, 15 GiB"
    assert "NCCL" in found["processes"] and "Triton" in found["kernels"]
    without = told_devices({**machine, "triton": False})
    assert not any("Triton" in finding.found for finding in without)
    nothing = {"gpus": [], "mps": False, "built": None, "triton": False, "nccl": False}
    alone = told_devices(nothing)
    assert (alone[0].name, alone[0].ok) == ("device", True)
    assert alone[0].found == "cpu alone (a CPU torch)"


def test_torch_itself_is_asked_for_the_devices_of_this_machine():
    assert {finding.name for finding in device_findings()} >= {"kernels", "processes"}
    assert device_findings(lambda _: None) == []
