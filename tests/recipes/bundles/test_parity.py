"""`recsys verify BUNDLE --run RUN`: a bundle beside the evaluation of its run."""

import numpy as np
import pytest
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError
from recsys.evaluation.agreement import rounding
from recsys.recipes.bundles.parity import compare_with_run
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.loading import LoadedRun
from tests.recipes.test_verbs import config, frame


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("parity")
    data = write_dataset(place / "data", frame(), name="walks").folder
    return recsys.train(config(data, trainer={"epochs": 1}), out=place / "run")


def exported(run, out, codec, **options):
    tiers = f"0:4:{codec}:ram,4:8:{codec}:mmap"
    recsys.export(run, out, tiers=tiers, users=False, tower=False, stages="4:12,8", **options)
    return out


def test_a_bundle_in_float32_finds_what_its_run_ranks(run, tmp_path):
    found = compare_with_run(exported(run, tmp_path / "b", "fp32"), run, threads=1)
    table = recsys.evaluate(run, with_baselines=False)
    assert found.exact and found.holds
    assert found.of_run.same == found.stages.same == found.num_users > 0
    assert max(found.stage_difference, found.score_difference) <= rounding(8) < 1e-6
    assert found.lines()[-1] == "passes: the bundle finds what its run ranks"
    assert found.ndcg == found.ndcg_of_run
    assert found.ndcg == pytest.approx(table.value("ndcg", 10, 8), abs=1e-9)


def test_what_is_added_to_repeats_comes_along(run, tmp_path):
    data = LoadedRun(run).config.data
    settings = config(data, trainer={"epochs": 2}, protocol="fmrlrec")
    model = settings.model.model_copy(update={"repeat_bias": True})
    biased = recsys.train(settings.model_copy(update={"model": model}), out=tmp_path / "biased")
    bundle = exported(biased, tmp_path / "b", "fp32")
    repeats = load_bundle(bundle).manifest.repeats
    assert repeats.keys() == {4, 8} and all(repeats.values())
    found = compare_with_run(bundle, biased, threads=1)
    assert found.exact and found.holds and found.of_run.same == found.num_users
    again = recsys.export(bundle, tmp_path / "again", tiers="0:8:int8:ram", users=False)
    assert load_bundle(again).manifest.repeats == repeats


def test_rounding_codecs_are_held_to_what_they_store(run, tmp_path):
    bundle = exported(run, tmp_path / "b", "int4")
    found = compare_with_run(bundle, run, threads=1)
    assert found.holds and not found.exact
    assert found.stage_difference <= rounding(8) < found.score_difference
    assert found.of_run.same < found.num_users
    printed = CliRunner().invoke(app, ["verify", str(bundle), "--run", str(run), "--users", "0"])
    assert printed.exit_code == 0 and "its codecs round, so these may differ" in printed.output
    assert printed.output.splitlines()[-1].startswith("passes: the bundle finds what it stores")


def test_a_bundle_of_other_vectors_does_not_hold(run, tmp_path):
    bundle = exported(run, tmp_path / "b", "fp32")
    plain = config(LoadedRun(run).config.data, trainer={"epochs": 1, "seed": 7})
    plain = plain.model_copy(update={"model": plain.model.model_copy(update={"init": "normal"})})
    other = recsys.train(plain, out=tmp_path / "other")
    found = compare_with_run(bundle, other, threads=1)
    assert not found.holds and found.of_run.same < found.num_users
    printed = CliRunner().invoke(app, ["verify", str(bundle), "--run", str(other)])
    assert printed.exit_code == 1 and "is whole" in printed.output
    assert "fails: a score differs from the run's" in printed.output
    assert "fails: the lists are not the run's: row " in printed.output
    assert printed.output.splitlines()[-1].startswith("name the run it was exported from")


def test_a_funnel_that_ends_at_a_shorter_prefix_passes(run, tmp_path):
    """Its last stage is what exact search is taken by, not the full width."""
    out = tmp_path / "b"
    recsys.export(run, out, tiers="0:8:fp32:ram", users=False, tower=False, stages="4")
    found = compare_with_run(out, run, threads=1)
    assert found.holds and found.stages.same == found.num_users


def test_a_bundle_that_ends_early_is_told_so_and_not_to_be_of_another_run(run, tmp_path):
    out = tmp_path / "b"
    recsys.export(run, out, tiers="0:4:fp32:ram", users=False, tower=False)
    with pytest.raises(ConfigError, match=r"ends at 4 of the run's 8 coordinates.*tiers up to 8"):
        compare_with_run(out, run)


def test_a_bundle_of_another_catalogue_is_refused(run, tmp_path):
    np.save(tmp_path / "items.npy", np.eye(9, 8, dtype=np.float32))
    recsys.nest(tmp_path / "items.npy", tmp_path / "b", recsys.Nesting("none", [4, 8]))
    with pytest.raises(ConfigError, match="name the run it was exported from"):
        compare_with_run(tmp_path / "b", run)
