"""The benchmarks of the server: equal lists are counted as such, figures are kept."""

import sys

import pytest

from benchmarks.serving import equal, start
from benchmarks.serving.load import Load, figures_of
from recsys.reports.results.record import Results, Step
from recsys.retrieval.bundle.loading import load_bundle


@pytest.mark.parametrize("store", ["faiss", "duckdb"])
def test_stores_give_the_lists_that_python_gives(shelf, tmp_path, monkeypatch, store):
    monkeypatch.setattr(equal, "POPULAR", 3)
    bundle = load_bundle(shelf)
    asked = equal.asked_of(bundle, 40)
    assert len(asked.histories) == 40 and asked.blocked[0] == "film 7"
    wanted = equal.by_python(shelf, asked)
    assert all(len(each) == 10 for each in wanted)
    for own, history in zip(wanted, asked.histories, strict=True):
        assert not {item for item, _ in own} & {*history, *asked.blocked}
    found = equal.by_store(bundle, f"{store}:{tmp_path / store}", asked)
    told = {row.metric: row.value for row in equal.compared(store, found, wanted, asked)}
    assert (told["lists"], told["agree"]) == (40, 40)
    assert told["scores of the same item that differ"] == 0
    (item, score), *rest = found[0]
    found[0] = [(item, score + 0.01), *rest]
    found[1] = found[1][::-1]
    told = {row.metric: row.value for row in equal.compared(store, found, wanted, asked)}
    assert told["agree"] == 38 and told["identical"] <= 39
    assert told["scores of the same item that differ"] == 1


def test_a_load_run_is_kept_as_figures():
    load = vars(Load(500.0, 0, 1.5, 2.5, 9.5))
    found = {
        "items": 30, "workers": 2, "bare": load, "one": load, "highest": load, "held": load,
        "mb_before": 200.0, "mb_first_swap": 203.0, "mb_last_swap": 202.0, "mb_after": 201.0,
        "swaps": {"swapped": "10.0", "refused": "2.0"},
        "killed": 1,
    }  # fmt: skip
    kept = Results(steps=(Step(command="x"),), seeds=(), rows=tuple(figures_of(found)))
    name = "30 items, 2 workers, held, with swaps"
    assert kept.find(name, None, "p99").value == 9.5
    assert kept.find(name, None, "swapped").value == 10
    assert kept.find(name, None, "MB after the last swap").value == 202
    assert kept.find("30 items, one request at a time, without HTTP", None, "p50").value == 1.5


def test_an_environment_with_torch_is_refused():
    with pytest.raises(RuntimeError, match="'torch'"):
        start.check_environment(sys.executable)
