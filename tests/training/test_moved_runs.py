"""Runs that were moved: their data is found by its hash, or named, and wrong data is refused."""

import shutil

import pytest

import recsys
from recsys.data.dataset import load_dataset, write_dataset
from recsys.errors import RunError
from recsys.recipes.training.train import train
from recsys.runs.loading import load_run
from tests.command import call
from tests.training.test_run_folders import frame, settings


def config(data, epochs):
    model = {"granularities": {"sizes": [4, 8]}, "history_length": 8, "encoder": {"nested": True}}
    return settings(data, epochs, model=model)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose run names its data by an absolute path, beside another data set."""
    place = tmp_path_factory.mktemp("trained")
    write_dataset(place / "data" / "walks", frame(), name="walks")
    write_dataset(place / "data" / "others", frame(seed=1), name="others")
    train(config(place / "data" / "walks", 1), out=place / "runs" / "one")
    return place


@pytest.fixture
def gone(trained, tmp_path):
    """A copy of the run and of both data sets; where it was trained nothing is left."""
    copy = shutil.copytree(trained, tmp_path / "there")
    kept = trained.rename(trained.with_name(f"{trained.name}-kept"))
    yield copy
    kept.rename(trained)


def test_a_run_moved_with_its_data_works_as_it_did(gone):
    run = (gone / "runs").rename(gone / "models") / "one"
    assert load_run(run).dataset.folder == gone / "data" / "walks"
    (gone / "data" / "walks").rename(gone / "data" / "renamed")
    assert load_run(run).dataset.folder == gone / "data" / "renamed", "by its hash, not its name"
    assert "walks" in call("evaluate", run, "--no-baselines")
    assert recsys.load(run).recommend(["1", "7"], k=3).height == 6


@pytest.mark.parametrize("place", ["one/data", "one/walks", "walks", "data/walks", "data"])
def test_data_is_found_in_the_run_and_beside_it(gone, tmp_path, place):
    alone = tmp_path / "deep" / "alone"
    alone.mkdir(parents=True)
    (gone / "runs" / "one").rename(alone / "one")
    (alone / place).parent.mkdir(exist_ok=True)
    (gone / "data" / "walks").rename(alone / place)
    shutil.rmtree(gone)
    assert load_run(alone / "one").dataset.folder == alone / place


def test_data_that_lies_elsewhere_is_named_for_every_verb(gone, tmp_path):
    run, data = tmp_path / "else" / "where" / "one", tmp_path / "far" / "off" / "walks"
    run.parent.mkdir(parents=True), data.parent.mkdir(parents=True)
    (gone / "runs" / "one").rename(run), (gone / "data" / "walks").rename(data)
    shutil.rmtree(gone)
    refused = call("evaluate", run, code=1)
    assert "found no data set" in refused and "--data FOLDER" in refused
    there = ("--data", data)
    call("evaluate", run, "--no-baselines", *there)
    call("cut", run, tmp_path / "cut", "--granularity", 4, *there)
    call("export", run, tmp_path / "bundle", "--no-tower", *there)
    assert "compared" in call("verify", tmp_path / "bundle", "--run", run, *there)
    call("recommend", run, "--all", "--out", tmp_path / "top.csv", *there)
    assert "recommended" in call("show", run, "--user", "1", *there)
    call("tradeoff", run, "codecs=[int8]", "keeps=[10]", "indexes=[scan]", *there)
    assert "8" in call("bits", run, "--bytes", "24", "--keep", "10", *there)
    assert recsys.evaluate(run, data, with_baselines=False).card.dataset == "walks"
    train(config(data, 2), out=run, resume=True)
    kept = recsys.load(run, data=data.parent).save(tmp_path / "kept" / "one")
    assert recsys.load(kept).users.len() == 60


def test_wrong_data_is_refused_and_both_are_described(gone):
    run, other = gone / "runs" / "one", gone / "data" / "others"
    wanted, found = (load_dataset(gone / "data" / n).manifest for n in ("walks", "others"))
    for attempt in (
        lambda: load_run(run, data=other),
        lambda: recsys.load(run, data=other),
        lambda: train(config(other, 2), out=run, resume=True),
    ):
        with pytest.raises(RunError) as error:
            attempt()
        for manifest in (wanted, found):
            assert f"{manifest.content_hash[:12]} ({manifest.name}" in str(error.value)
    shutil.rmtree(gone / "data" / "walks")
    with pytest.raises(RunError, match=r"found .*others with .*\(others, 60 users"):
        load_run(run)


def test_a_neighbour_that_cannot_be_read_is_passed_over(gone):
    broken = gone / "data" / "aaa"
    broken.mkdir()
    (broken / "dataset.json").write_text("{")
    assert load_run(gone / "runs" / "one").dataset.folder == gone / "data" / "walks"


def test_a_kept_baseline_moves_with_its_data(tmp_path):
    data = write_dataset(tmp_path / "here" / "data", frame(), name="walks").folder
    before = recsys.fit(data, "popularity", out=tmp_path / "here" / "model").recommend(["1"], k=3)
    (tmp_path / "here").rename(tmp_path / "there")
    assert recsys.load(tmp_path / "there" / "model").recommend(["1"], k=3).equals(before)
    write_dataset(tmp_path / "there" / "data", frame(seed=1), name="other")
    with pytest.raises(RunError, match=r"content hash .*popularity.* found .*other"):
        recsys.load(tmp_path / "there" / "model")
