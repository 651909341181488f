"""`recsys bits` through Python and the command line: what it prints is what export takes."""

import shlex

import pytest

import recsys
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, DataError, RunError
from recsys.evaluation.bootstrap import paired_difference
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from tests.command import call
from tests.recipes.test_verbs import config, frame


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("bits")
    data = write_dataset(place / "data", frame(), name="walks").folder
    return recsys.train(config(data), out=place / "run")


OPTIONS = {
    "edges": [2, 4, 6], "keep": 12, "measuring": recsys.Measuring(num_users=None, threads=1)
}  # fmt: skip


def test_the_printed_command_makes_a_bundle_of_that_split_and_is_found_by(run):
    printed = call("bits", run, "--bytes", "8,9", "--edges", "2,4,6", "--keep", 12, "--users", 0)
    content = recsys.bits(run, [9, 8], **OPTIONS)
    commands = [line for line in printed.splitlines() if line.startswith("recsys export")]
    assert commands == [row.command for row in content.rows] and len(commands) == 2
    call(*shlex.split(commands[1])[1:], "--no-tower")
    folder = run / "bundle"
    bundle, split = load_bundle(folder), content.rows[1].bought.split
    assert verify_bundle(folder) == []
    hot = [tier.spec for tier in bundle.items.parts if tier.spec.residence == "ram"]
    assert tuple(hot) == split.tiers and bundle.manifest.stages == f"{hot[-1].hi}:12,8"
    funnel = open_funnel(bundle, threads=1)
    found = funnel.search(bundle.users.decode(slice(None), 0, 8))
    assert (found.items >= 0).all()
    assert funnel.hot_bytes / bundle.num_items == pytest.approx(split.nbytes)


def test_a_split_is_chosen_on_the_validation_part_and_measured_on_the_test_part(run):
    content = recsys.bits(run, [9], **OPTIONS)
    assert content.parts == ("the validation part", "the test part")
    (row,) = content.rows
    assert (
        row.split.recall == row.split.aimed.mean() and row.single.recall == row.single.aimed.mean()
    )
    assert row.beside == paired_difference(row.single.aimed, row.split.aimed)
    test = recsys.evaluate(run, part="test", with_baselines=False).value("ndcg", 10, 8)
    assert row.split.funnel.ndcg == pytest.approx(test * row.split.funnel.kept)


def test_lists_are_aimed_at_by_the_funnel_that_is_exported(run):
    (row,) = recsys.bits(run, [9], aim="lists", **OPTIONS).rows
    for reached in (row.split, row.single):
        assert reached.aimed.mean() == pytest.approx(reached.funnel.overlap)
        assert reached.recall >= reached.funnel.overlap
    (other,) = recsys.bits(run, [9], **OPTIONS).rows
    assert row.bought.split.recall <= other.bought.split.recall


def test_a_bundle_with_users_is_split_too_against_what_it_holds(run, tmp_path):
    recsys.export(run, tmp_path / "whole", tiers="0:8:fp32:ram", tower=False)
    content = recsys.bits(tmp_path / "whole", [9], **OPTIONS)
    assert content.parts == ("every second user", "the other users")
    (row,) = content.rows
    assert row.split.funnel.ndcg is None and "whole-bits" in row.command


def test_what_cannot_be_split_is_refused(run, tmp_path):
    assert "not even the first 2" in call(
        "bits", run, "--bytes", "1", "--edges", "2,4", "--keep", 12, code=1
    )
    assert "not of the form 8,16,32" in call("bits", run, "--bytes", "2.5,x", code=2)
    assert "from 1 to 7 are expected" in call("bits", run, "--edges", "4,8", "--keep", 12, code=1)
    assert "keep is 5" in call("bits", run, "--keep", 5, code=1)
    assert "'all' is not among" in call("bits", run, "--aim", "all", code=2)
    with pytest.raises(ConfigError, match="aim 'all' is not among"):
        recsys.bits(run, aim="all")
    with pytest.raises(ConfigError, match=r"budgets .* above 0"):
        recsys.bits(run, [])
    with pytest.raises((RunError, DataError), match="is neither a run folder nor a bundle"):
        recsys.bits(tmp_path)
