"""`recsys nest` and `recsys tradeoff` through Python and the command line."""

import shlex
import shutil
from html import unescape

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.data.dataset import write_dataset
from recsys.data.features.vector_files import read_vectors
from recsys.errors import ConfigError, DataError, RunError
from recsys.reports.tradeoff.words import funnel_of
from recsys.retrieval.bundle.loading import load_bundle
from tests.command import call, invoke
from tests.recipes.test_verbs import config, frame
from tests.retrieval.test_rotation import ITEMS, USERS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("vectors")
    np.save(place / "items.npy", ITEMS)
    ids = [f"u{i}" for i in range(len(USERS))]
    pl.DataFrame({"id": ids, "vector": list(USERS)}).write_parquet(place / "users.parquet")
    return place


def test_vectors_become_a_bundle_whose_prefixes_miss_less(files, tmp_path):
    missed = {}
    for method in ("none", "pca", "learned"):
        done = recsys.nest(
            files / "items.npy", tmp_path / method, recsys.Nesting(method, [2, 4, 8, 16]),
            users=files / "users.parquet", tiers="0:16:fp32:ram",
        )  # fmt: skip
        missed[method] = done.missed
        bundle = load_bundle(done.folder)
        items, users = (t.decode(slice(None), 0, 16) for t in (bundle.items, bundle.users))
        np.testing.assert_allclose(users @ items.T, USERS @ ITEMS.T, atol=2e-5)
        turned = USERS if bundle.rotation is None else USERS @ bundle.rotation
        np.testing.assert_allclose(users, turned, atol=1e-5)
    assert missed["learned"] < min(missed["none"], missed["pca"])
    assert bundle.ids("user")["user_id"][3] == "u3"


def test_the_verb_nests_and_the_bundle_is_measured(files, tmp_path):
    out = tmp_path / "out"
    printed = call(
        "nest", files / "items.npy", out, "--users", files / "users.parquet", "--method", "pca",
        "--sizes", "2,4,8,16", "--tiers", "0:8:int8:ram,8:16:fp16:mmap", "--normalize",
        "--stages", "8:50,16",
    )  # fmt: skip
    assert "prefixes lose" in printed and "is whole" in call("verify", out)
    assert load_bundle(out).manifest.stages == "8:50,16"
    content = recsys.tradeoff(
        out,
        ["keeps=[50]", "indexes=[scan]"],
        out=tmp_path / "report",
        measuring=recsys.Measuring(num_users=50, threads=1),
    )
    assert content.what == "overlap@10" and content.command is None
    assert "No funnel of this sweep keeps 99 %" in content.headline
    assert content.found.num_users == 50 and content.parts[0] == "every second user"
    assert (tmp_path / "report" / "tradeoff.html").is_file()


def test_files_of_other_kinds_are_refused(files, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_vectors(tmp_path / "none.npy")
    (tmp_path / "a.txt").write_text("1 2")
    with pytest.raises(DataError, match=r"none of .npz, .npy and .parquet"):
        read_vectors(tmp_path / "a.txt")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="is a pickle"):
        read_vectors(tmp_path / "objects.npy")
    np.save(tmp_path / "ints.npy", np.ones((2, 2), int))
    with pytest.raises(DataError, match="floats are expected"):
        read_vectors(tmp_path / "ints.npy")
    pl.DataFrame({"a": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="unequal length"):
        read_vectors(tmp_path / "ragged.parquet")
    pl.DataFrame({"a": [1.0]}).write_parquet(tmp_path / "flat.parquet")
    with pytest.raises(DataError, match="one column of lists"):
        read_vectors(tmp_path / "flat.parquet")
    np.save(tmp_path / "short.npy", ITEMS[:, :8])
    with pytest.raises(DataError, match="8 coordinates"):
        recsys.nest(files / "items.npy", tmp_path / "b", users=tmp_path / "short.npy")
    with pytest.raises(ConfigError, match="end at the 16"):
        recsys.nest(files / "items.npy", tmp_path / "b", recsys.Nesting(sizes=[4, 8]))


ONE, ALIKE = ITEMS[:1], np.repeat(ITEMS[:1], 30, axis=0)
PLAIN = {
    "one row": (ONE, None),
    "rows all alike": (ALIKE, None),
    "some rows of zeros": (np.concatenate([ALIKE, np.zeros_like(ALIKE)]), None),
    "users all alike": (ITEMS, ALIKE),
    "one user": (ITEMS, ONE),
    "items all alike": (ALIKE, USERS),
    "one item": (ONE, USERS),
}


@pytest.mark.parametrize("method", ["learned", "pca", "none"])
@pytest.mark.parametrize("name", PLAIN)
def test_vectors_that_hardly_differ_are_nested_like_any_others(name, method, tmp_path):
    """There may be nothing to learn of them; what a rotation must keep it keeps."""
    items, users = PLAIN[name]
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "users.npy", items if users is None else users)
    done = recsys.nest(
        tmp_path / "items.npy", tmp_path / "out", recsys.Nesting(method, [4, 16]),
        users=None if users is None else tmp_path / "users.npy", tiers="0:16:fp32:ram",
    )  # fmt: skip
    bundle = load_bundle(done.folder)
    stored, turn = bundle.items.decode(slice(None), 0, 16), bundle.rotation
    wanted = items if turn is None else items @ turn
    np.testing.assert_allclose(stored, wanted, atol=1e-5)
    if turn is not None:
        np.testing.assert_allclose(turn @ turn.T, np.eye(16), atol=1e-5)
    assert 0 <= done.missed <= 1 and 0 <= done.missed_before <= 1
    searched = items if users is None else users
    if 1 in (len(np.unique(items, axis=0)), len(np.unique(searched, axis=0))):
        assert done.missed == done.missed_before == 0


def test_zeros_alone_are_refused_where_they_cannot_be_turned(tmp_path):
    np.save(tmp_path / "items.npy", np.zeros((5, 16), np.float32))
    for method in ("learned", "pca"):
        with pytest.raises(DataError, match="all zero"):
            recsys.nest(tmp_path / "items.npy", tmp_path / "out", recsys.Nesting(method))
    assert not (tmp_path / "out").exists()
    plain = recsys.Nesting("none")
    assert recsys.nest(tmp_path / "items.npy", tmp_path / "out", plain).missed == 0


@pytest.mark.parametrize("wrong", [{"method": "svd"}, {"seed": -1}, {"seed": 1.5}])
def test_a_method_or_seed_that_there_is_not_is_refused(files, tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"svd.*not among|the seed is"):
        recsys.nest(files / "items.npy", tmp_path / "bundle", recsys.Nesting(**wrong))
    assert not (tmp_path / "bundle").exists()


def test_ids_of_vectors_stand_for_one_row_each(tmp_path):
    rows = {"vector": [[1.0], [2.0], [3.0]]}
    for ids, told in (
        (["a", "b", "a"], "names 1 ids more than once, such as 'a'"),
        (["a", None, "b"], "1 rows without an id"),
        (["a", "a ", "b"], "names 1 ids more than once, such as 'a'"),
        ([1.5, 2.0, 3.0], "holds 1.5 in row 0 where an id is expected"),
    ):
        pl.DataFrame({"id": ids, **rows}).write_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=told):
            read_vectors(tmp_path / "a.parquet")
    pl.DataFrame({"id": [1.0, 2.0, 3.0], **rows}).write_parquet(tmp_path / "a.parquet")
    assert read_vectors(tmp_path / "a.parquet").ids.to_list() == ["1", "2", "3"]
    pl.DataFrame({"vector": [["1"], ["2"]]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="lists of String, not of numbers"):
        read_vectors(tmp_path / "a.parquet")
    (tmp_path / "cut.npy").write_bytes(b"")
    with pytest.raises(DataError, match="not a complete npy"):
        read_vectors(tmp_path / "cut.npy")
    (tmp_path / "cut.npy").write_text("1 2 3")
    with pytest.raises(DataError, match=r"of another kind\); write it again with numpy.save"):
        read_vectors(tmp_path / "cut.npy")


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_floats_are_told_once(tmp_path):
    np.save(tmp_path / "large.npy", ITEMS.astype(np.float64) * 1e300)
    with pytest.raises(DataError, match=r"row 0 of the vectors in .*large\.npy is not finite"):
        recsys.nest(tmp_path / "large.npy", tmp_path / "bundle")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--recall", 0.5), 1, "recall 0.5 is what an index is tuned to, and there is none"),
        (("--sizes", ""), 2, "'' is not of the form 8,16,32"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(files, tmp_path, words, code, told):
    found = invoke("nest", files / "items.npy", tmp_path / "bundle", *words)
    assert found.exit_code == code and told in found.output
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("tradeoff")
    data = write_dataset(place / "data", frame(), name="walks").folder
    return recsys.train(config(data), out=place / "run")


SWEEP = ["keeps=[12, 20]", "codecs=[int8]", "granularities=[4]"]


def test_options_of_runs_are_told_beside_a_bundle(run, tmp_path):
    recsys.export(run, tmp_path / "bundle", tower=False)
    for verb in (
        ("export", tmp_path / "bundle", tmp_path / "other"),
        ("bits", tmp_path / "bundle"),
    ):
        told = invoke(*verb, "--data", run.parent / "data").output
        assert "is a bundle, and --data, --device and --unfinished are of runs" in told


@pytest.mark.parametrize("verb", ["tradeoff", "bits"])
def test_a_number_of_users_that_is_none_is_refused(run, verb):
    found = invoke(verb, run, "--users", -1)
    assert found.exit_code == 1
    assert "the number of users is -1; a whole number of 1 or more is expected" in found.output


def test_a_run_without_its_config_is_called_one(run, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(run / "run.json", tmp_path / "run")
    with pytest.raises(RunError, match="is a run folder whose config"):
        recsys.load_run(tmp_path / "run")


def test_a_run_is_measured_and_the_printed_command_makes_the_chosen_bundle(run):
    printed = call("tradeoff", run, *SWEEP, "--users", 0, "--keep-ndcg", 0.5)
    command = next(line for line in printed.splitlines() if line.startswith("recsys export"))
    assert "what each byte buys" in printed
    content = recsys.tradeoff(
        run, SWEEP, keep_ndcg=0.5, measuring=recsys.Measuring(num_users=None, threads=1)
    )
    call(*shlex.split(command)[1:], "--no-tower")
    bundle = load_bundle(run / "bundle")
    assert bundle.manifest.stages == f"4:{content.chosen.keep},8"
    assert content.machine in (run / "tradeoff" / "tradeoff.html").read_text()
    hot = bundle.items.bytes_per_row("ram")
    assert hot <= content.chosen.hot_bytes <= hot + 4
    page = (run / "tradeoff" / "tradeoff.html").read_text()
    assert "<svg" in page and command.split(" --tiers ")[1].split()[0] in page


def test_a_funnel_is_chosen_on_the_validation_part_and_measured_once_on_the_test_part(run):
    content = recsys.tradeoff(
        run, SWEEP, keep_ndcg=0.5, measuring=recsys.Measuring(num_users=None, threads=1)
    )
    for part, found in (("valid", content.found), ("test", content.measured)):
        table = recsys.evaluate(run, part=part, with_baselines=False)
        assert found.exact.ndcg == pytest.approx(table.value("ndcg", 10, 8), abs=1e-9)
        assert found.exact.recall == pytest.approx(table.value("recall", 10, 8), abs=1e-9)
    chosen, measured = content.chosen, content.measured.points[0]
    assert len(content.measured.points) == 1 and chosen in content.found.points
    for name in ("granularity", "codec", "index", "keep", "ranking", "cascade"):
        assert getattr(chosen, name) == getattr(measured, name)
    assert content.standing.startswith("Chosen on the validation part: 4 int8")
    low, high = 100 * measured.kept_low, 100 * measured.kept_high
    assert content.headline.startswith("On the test part ")
    assert f" keeps {100 * measured.kept:.1f} %" in content.headline
    assert ".0 bytes" not in content.headline
    assert f"(95 % interval {low:.1f} to {high:.1f} %)" in content.headline
    rows = pl.read_csv(run / "tradeoff" / "tradeoff.csv")
    parts = rows["part"].to_list()
    assert (
        parts == ["the validation part"] * (1 + len(content.found.points)) + ["the test part"] * 2
    )
    page = unescape((run / "tradeoff" / "tradeoff.html").read_text())
    page = page.replace("\N{NO-BREAK SPACE}", " ")
    assert "Measured once, on the test part" in page and content.standing in page
    told = f"the first 4 coordinates, stored as int8, find {chosen.keep} candidates (scan), which 8"
    assert f"<dt>{funnel_of(chosen)}</dt><dd>{told} coordinates rank</dd>" in page
    assert "s3rec protocol, the validation part" in page  # beneath both plots


def test_users_who_cannot_tell_get_the_safer_funnel_and_are_told_so(run):
    content = recsys.tradeoff(
        run, [*SWEEP, "keeps=[12, 25]"], measuring=recsys.Measuring(num_users=20, threads=1)
    )
    assert content.chosen.keep == 25 and content.chosen.overlap == 1
    assert content.standing.startswith("No funnel surely keeps 99 % on the validation part")
    assert "lists are most like those of exact search (100.0 % the same)" in content.standing


def test_a_run_fitted_on_its_validation_part_is_chosen_by_some_test_users_for_others(run, tmp_path):
    data = recsys.load_run(run).config.data
    both = recsys.train(config(data, fit_on="train+valid"), out=tmp_path / "both")
    content = recsys.tradeoff(
        both, SWEEP, keep_ndcg=0.5, measuring=recsys.Measuring(num_users=None, threads=1)
    )
    assert content.parts[0] == "every second user of the test part"
    assert content.found.num_users + content.measured.num_users == 80
    assert content.headline.startswith("On the other users of the test part ")


def test_a_floor_nobody_reaches_is_said(run):
    printed = call(
        "tradeoff", run, "keeps=[2]", "codecs=[binary]", "granularities=[4]", "indexes=[scan]",
        "--keep-ndcg", 1, "--users", 0, "-k", 2,
    )  # fmt: skip
    assert "No funnel of this sweep keeps" in printed and "recsys export" not in printed


def test_what_cannot_be_measured_is_refused(run, tmp_path):
    assert "unknown key" in call("tradeoff", run, "keep=[12]", code=1)
    assert "needs the split global-time" in call(
        "tradeoff", run, "--protocol", "global-time", code=1
    )
    with pytest.raises((RunError, DataError), match="is neither a run folder nor a bundle"):
        recsys.tradeoff(tmp_path)
