"""`recsys calibrate`: a run of its own in which only items that nobody had have moved."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

import recsys
from recsys.data.dataset import SplitRule, write_dataset
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metric_table import MetricTable
from recsys.retrieval.bundle.loading import load_bundle
from tests.command import call
from tests.recipes.test_verbs import config, frame
from tests.recipes.training.test_content import content_config, new_items_of, write_features

ROUTED = ("--stages", "4:20,8", "--route", "0.9")


def timed():
    """Walks around the circle; some of the items are there only at the end."""
    late = 10_000 * (pl.col("item_id") >= 21)
    return frame().with_columns(timestamp=pl.col("timestamp") + late).sort("user_id", "timestamp")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrate")


@pytest.fixture(scope="module")
def run(place):
    split = SplitRule(name="global-time")
    # Users as they are numbered: of so small a data set other ones are another outcome.
    folder = write_dataset(place / "data", timed(), name="walks", split=split, order="given").folder
    write_features(folder)
    return recsys.train(content_config(folder, protocol="global-time"), out=place / "one")


def test_the_calibrated_run_has_the_same_known_items_and_other_new_ones(run, place):
    out = place / "calibrated"
    assert "calibrated" in call("calibrate", run, out, "--steps", "30", "--learning-rate", "0.05")
    before, after = recsys.load_run(run), recsys.load_run(out)
    known = before.model.table.trained
    assert 0 < int(known.sum()) < len(known)
    old, new = before.model.item_vectors(), after.model.item_vectors()
    torch.testing.assert_close(new[known], old[known])
    assert not torch.allclose(new[~known], old[~known])
    told = json.loads((out / "run.json").read_text())["calibrated"]
    assert told["run"] == "one" and told["part"] == "valid"
    assert told["after"] < told["before"]


@pytest.fixture(scope="module")
def plain(run, place):
    """A run of ids alone."""
    data = recsys.load_run(run).config.data
    return recsys.train(config(data, protocol="global-time"), out=place / "ids")


@pytest.fixture(scope="module")
def late(plain, place):
    """The same with content for new items, fitted with them weighing like known ones."""
    names = "model.items.features=[text,genres,year]"
    call("calibrate", plain, place / "late", names, "--steps", "40", "--weight", "1")
    return place / "late"


def test_content_comes_to_a_run_of_ids_alone_and_known_items_and_their_users_stay(plain, late):
    before, after = recsys.load_run(plain), recsys.load_run(late)
    known = after.model.table.trained
    old, new = before.model.item_vectors().detach(), after.model.item_vectors().detach()
    assert torch.equal(new[known], old[known])
    assert new[~known].norm(dim=1).mean() == pytest.approx(
        float(old[known].norm(dim=1).mean()), rel=0.5
    )
    held = held_out(before.dataset, before.split, "valid")
    histories = held.histories(before.dataset, np.arange(len(held.users)))
    with torch.no_grad():
        users = [loaded.model.user_vectors(histories) for loaded in (before, after)]
    torch.testing.assert_close(users[1], users[0])
    told = json.loads((late / "run.json").read_text())["calibrated"]
    assert told["after"] < told["before"]


def test_a_run_with_an_option_that_is_refused_today_is_given_content_too(plain, place):
    """Earlier versions took options that do nothing."""
    older = place / "older"
    shutil.copytree(plain, older)
    text = (older / "config.yaml").read_text()
    (older / "config.yaml").write_text(
        text.replace("name: sampled_softmax", "name: sampled_softmax\n  calibration: 0.5")
    )
    assert "calibration: 0.5" in (older / "config.yaml").read_text()
    names = "model.items.features=[text]"
    assert "calibrated" in call("calibrate", older, place / "newer", names, "--steps", "2")


def test_the_card_of_a_calibrated_run_says_that_the_validation_part_was_read(run, late, place):
    honest = recsys.evaluate(run, with_baselines=False)
    assert honest.card.fit_on == "train"
    table = recsys.evaluate(late)
    assert table.card.fit_on == "train+valid" and "ease" in " ".join(table.rows["run"].unique())
    assert "fitted on train+valid" in call("evaluate", late, "--no-baselines")
    with pytest.raises(ProtocolError, match="fit_on: 'train' against 'train\\+valid'"):
        recsys.compare([run, late])
    recsys.export(late, place / "carded", tower=False)
    assert load_bundle(place / "carded").manifest.protocol["fit_on"] == "train+valid"


def test_a_calibrated_run_is_not_measured_on_what_it_was_calibrated_by(late, place):
    for verb in (["evaluate", late, "--split", "valid"], ["export", late, place / "r", *ROUTED]):
        assert "was calibrated on the validation part" in call(*verb, code=1)
    assert not (late / "metrics" / "valid-global-time.json").exists()


def test_a_table_that_says_less_than_the_run_was_fitted_on_is_refused(run, late, place):
    path = late / "metrics" / "test-global-time.json"
    table = recsys.evaluate(late, with_baselines=False)
    told = table.card.model_copy(update={"fit_on": "train"})
    MetricTable(told, table.rows).save(path)  # as it was written before
    assert "fitted on train+valid, its table says train" in call("compare", run, late, code=1)
    recsys.evaluate(late, with_baselines=False)


def test_a_model_cut_from_a_calibrated_run_remembers_it(run, place):
    data = recsys.load_run(run).config.data
    encoder = {"nested": True, "num_heads": 1}
    settings = content_config(data, protocol="global-time", trainer={"epochs": 1})
    model = settings.model.model_copy(
        update={"encoder": type(settings.model.encoder).model_validate(encoder)}
    )
    nested = recsys.train(settings.model_copy(update={"model": model}), out=place / "nested")
    recsys.calibrate(nested, place / "nested-calibrated", steps=2)
    small = recsys.cut(place / "nested-calibrated", place / "small", granularity=4)
    assert recsys.load_run(small).fit_on == "train+valid"


def test_a_weight_that_is_none_is_refused(run, place):
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="is not a weight of new targets"):
            recsys.calibrate(run, place / "refused", weight=weight)
    assert not (place / "refused").exists()


def test_new_items_of_a_calibrated_run_and_of_its_bundle_have_the_vectors_of_cold_ones(late, place):
    loaded = recsys.load_run(late)
    cold = (~loaded.model.table.trained).nonzero().squeeze(1).numpy()
    given = new_items_of(loaded.dataset.folder, cold)
    expected = loaded.model.item_vectors().detach().numpy()[cold]
    found = recsys.vectors_for_new_items(late, given)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    recsys.export(late, place / "shelf", tower=False)
    np.testing.assert_array_equal(recsys.vectors_for_new_items(place / "shelf", given), found)


def test_content_is_added_by_gates_alone_and_nothing_else_is_changed(run, plain, place):
    with pytest.raises(ConfigError, match="gated_sum"):
        wanted = ["model.items.features=[text]", "model.items.fusion=projection"]
        recsys.calibrate(plain, place / "x", wanted)
    with pytest.raises(ConfigError, match=r"nothing but model\.items"):
        recsys.calibrate(plain, place / "x", ["trainer.epochs=3"])
    with pytest.raises(ConfigError, match="not a run of ids alone by a model of histories"):
        recsys.calibrate(run, place / "x", ["model.items.features=[text]"])


def test_what_cannot_be_calibrated_says_why(run, place):
    with pytest.raises(RunError, match="not empty"):
        recsys.calibrate(run, run)
    loaded = recsys.load_run(run)
    plain = recsys.train(config(loaded.config.data), out=place / "plain")
    with pytest.raises(ConfigError, match="not made of ids and content"):
        recsys.calibrate(plain, place / "x")
    folder = write_dataset(place / "other", frame(), name="walks").folder
    write_features(folder)
    last = recsys.train(content_config(folder), out=place / "last")
    with pytest.raises(RunError, match="takes a global-time split"):
        recsys.calibrate(last, place / "x")
