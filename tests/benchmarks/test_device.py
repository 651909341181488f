"""The benchmark of a device: its tiny form runs on a CPU, and every row says what it measured."""

import json

import pytest

from benchmarks.device import __main__ as device
from benchmarks.device.plan import TINY
from benchmarks.device.steps import variants, with_ratios


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "device.json"
    device.main(device="cpu", tiny=True, minutes=5.0, rectools=None, out=out)
    return json.loads(out.read_text())


def test_every_variant_has_a_time_and_a_peak_of_memory(found):
    count = len(list(variants(TINY)))
    losses = found["tables"]["loss alone, forward and backward"]
    assert len(losses) == 2 * count and {row["form"] for row in losses} == {"naive", "ours"}
    steps = found["tables"]["training step of SASRec"]
    assert len(steps) == count
    assert all(row["ms"] > 0 and row["MiB"] > 0 for row in losses + steps)
    assert {(row["items"], row["softmax"], row["precision"]) for row in steps} == {
        (items, softmax, precision)
        for items in TINY.catalogues
        for softmax in ("full", "sampled")
        for precision in ("float32", "bf16")
    }


def test_an_epoch_and_an_evaluation_are_those_of_the_made_up_data(found):
    (shape,) = TINY.shapes
    epochs, (evaluation,) = found["tables"]["an epoch"], found["tables"]["evaluation"]
    assert [row["precision"] for row in epochs] == ["float32", "bf16"]
    assert all(row["s/epoch"] > 0 and row["steps"] >= 2 for row in epochs)
    assert evaluation["users"] == shape.users and evaluation["users/s"] > 0


def test_the_machine_its_versions_and_what_was_left_out_are_told(found):
    assert found["machine"]["device"] == "cpu"
    assert {"torch", "triton", "commit", "cpu"} <= found["machine"].keys()
    assert any("RecTools" in each for each in found["left out"])


def test_what_there_is_no_time_for_is_left_out_and_named(tmp_path):
    device.main(device="cpu", tiny=True, minutes=0.0, rectools=None, out=tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert not any(found["tables"].values())
    assert "an epoch of tiny" in found["left out"]


def test_ratios_are_to_one_granularity_of_the_same_kind():
    rows = [
        {"items": 9, "form": "ours", "granularities": g, "ms": ms, "MiB": 1.0}
        for g, ms in ((1, 2.0), (6, 3.0))
    ]
    other = {"items": 8, "form": "ours", "granularities": 6, "ms": 5.0, "MiB": 1.0}
    told = with_ratios([*rows, None, other])
    assert [row["ratio"] for row in told] == [1.0, 1.5, ""]
