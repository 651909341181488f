"""A study of tables: a tiny recipe on a few kinds."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

import recsys
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import rank_held_out
from recsys.recipes.evaluating.results import Origin
from recsys.reports.results.record import Step, read_results
from recsys.runs.loading import load_run
from recsys.studies import study
from recsys.studies.report.terminal import print_study
from recsys.studies.results import keep_study
from recsys.studies.tables.config import (
    TableStudyConfig,
    label_of,
    make_table_plan,
    read_table_study,
)
from recsys.studies.tables.figures import TablePoint, tabulate

TABLES = [
    {"name": "hashed", "method": "hash"},
    {"name": "low_rank"},
    {"name": "clustered", "hashed_share": 0.0},
    {"name": "quantized"},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def study_file(place):
    """Users who walk a circle of 120 items."""
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, 120, 150), random.integers(5, 9, 150)
    users = np.repeat(np.arange(150), lengths)
    walks = [(start + np.arange(n)) % 120 for start, n in zip(starts, lengths, strict=True)]
    frame = pl.DataFrame({"user_id": users, "item_id": np.concatenate(walks)})
    data = write_dataset(place / "data", frame, name="circle").folder
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8, 16]}, "history_length": 8},
        "trainer": {"epochs": 2},
    }
    (place / "run.yaml").write_text(yaml.safe_dump(tree))
    path = place / "tables.yaml"
    tree = {
        "run": str(place / "run.yaml"),
        "tables": TABLES,
        "shares": [0.5, 0.125],
        "seeds": [0, 1],
        "codecs": ["int8", "prefix"],
        "num_resamples": 100,
    }
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def result(place, study_file):
    return study(study_file, out=place / "study")


def test_every_table_is_trained_at_every_share_and_seed_beside_the_dense_one(study_file):
    plan = make_table_plan(read_table_study(study_file, []))
    names = [each.run.name for each in plan.runs]
    assert len(names) == 2 * (1 + 2 * 4) == len(set(names))
    assert names[:2] == ["dense-s0", "hashed-hash-0.5-s0"]
    first, second = plan.runs[1].run.config, plan.runs[0].run.config
    assert first.model.table.share == 0.5
    assert first.model_copy(update={"model": second.model}) == second  # nothing else differs


def test_figures_are_those_of_the_runs(result, place):
    figures = result.content.figures
    loaded = [load_run(place / "study" / f"low-rank-0.5-s{seed}") for seed in (0, 1)]
    for size in (4, 16):
        values = [
            rank_held_out(
                run.model, run.dataset, run.split, part="test", filter_seen=True, ks=(10,)
            ).per_user("ndcg", 10, size)
            for run in loaded
        ]
        own = figures.filter(
            (pl.col("table") == "low_rank")
            & (pl.col("share") == 0.5)
            & (pl.col("granularity") == size)
            & (pl.col("metric") == "ndcg")
        ).row(0, named=True)
        assert own["value"] == pytest.approx(np.mean(values))
        assert own["bytes"] == loaded[0].model.table.nbytes
        dense = 4 * loaded[0].dataset.num_items * 16
        assert own["byte_share"] == pytest.approx(own["bytes"] / dense) and own["byte_share"] < 0.5


def test_bytes_are_at_most_the_share_and_codecs_take_what_they_take(result):
    figures = result.content.figures
    trained = figures.filter(pl.col("trained"))
    assert (trained["byte_share"] <= trained["share"]).all()
    coded = figures.filter(pl.col("table") == "int8")["byte_share"].unique().to_list()
    assert coded == [pytest.approx((16 + 4) / 64)]
    cut = figures.filter((pl.col("table") == "prefix") & (pl.col("metric") == "ndcg"))
    assert sorted(cut["byte_share"].unique().to_list()) == [0.125, 0.5]
    # A prefix of a half is the dense table's own granularity, and all there is of wider ones.
    half = cut.filter(pl.col("share") == 0.5).sort("granularity")["value"].to_list()
    dense = figures.filter((pl.col("table") == "dense") & (pl.col("metric") == "ndcg"))
    dense = dense.sort("granularity")["value"].to_list()
    assert half == pytest.approx([dense[0], dense[1], dense[1]])


def test_what_is_kept_is_over_the_dense_table_at_that_granularity(result):
    figures = result.content.figures.filter(pl.col("metric") == "ndcg")
    dense = dict(
        figures.filter(pl.col("table") == "dense").select("granularity", "value").iter_rows()
    )
    for row in figures.iter_rows(named=True):
        assert row["kept"] == pytest.approx(row["value"] / dense[row["granularity"]])
        assert row["low"] <= row["value"] <= row["high"]


def test_a_dense_table_that_finds_nothing_in_a_resample_gives_no_interval_and_no_nan(result):
    figures = result.content.figures.with_columns(
        kept_low=pl.lit(None, pl.Float64), kept_high=pl.lit(None, pl.Float64)
    )
    content = replace(result.content, figures=figures)
    assert "(no interval: in a resample the dense table finds nothing)" in content.headline
    nothing = replace(content, figures=figures.with_columns(kept=pl.lit(None, pl.Float64)))
    assert nothing.headline == "No compressed table has been trained yet."
    zeros = {metric: np.zeros(8) for metric in ("recall", "ndcg")}
    points = [
        TablePoint(label, True, share, int(64 * share), 64, 4, 0, zeros)
        for label, share in (("dense", 1.0), ("hashed", 0.5))
    ]
    plan = SimpleNamespace(config=SimpleNamespace(num_resamples=20))
    assert tabulate(plan, points)["kept"].null_count() == 2 * len(points)


def test_a_share_that_holds_no_table_is_left_out_with_its_reason(result):
    assert len(result.missing) == 2  # a codebook of 16 words is too much for 120 items
    assert all(
        line.startswith("quantized-0.125-s") and "codebook" in line for line in result.missing
    )


def test_page_plot_and_terminal_show_every_table(result):
    page = next(path for path in result.files if path.suffix == ".html").read_text()
    console = Console(record=True, width=200)
    print_study(result.content, console)
    text = console.export_text()
    for name in ("hashed hash", "low_rank", "clustered hashed_share=0.0", "int8 (after training)"):
        assert name in page and name in text
    assert page.count("<svg") == 1 and "http" not in page.replace("http://www.w3.org", "")
    assert "keeps" in text


def test_the_same_command_trains_nothing_again(result, place, study_file):
    run = place / "study" / "dense-s0"
    before = (run / "model.safetensors").stat().st_mtime_ns
    again = study(study_file, out=place / "study", train=False)
    assert again.content.figures.equals(result.content.figures)
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_the_api_has_it_and_dry_looks_only(study_file, place):
    found = recsys.study(study_file, out=place / "other", dry=True)
    assert {state.state for state in found.states} == {"missing"}
    assert not (place / "other").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": [{"name": "mapped"}]}, "take no share that would set their bytes"),
        ({"tables": [{"name": "low_rank"}, {"name": "low_rank", "share": 0.1}]}, "named twice"),
        ({"tables": [{"name": "low_tank"}]}, "there is no table of this name"),
        ({"codecs": ["int7"]}, "int7"),
        ({"shares": [0.5, 1.0]}, "between 0 and 1"),
        ({"seed": [0]}, "did you mean 'seeds'"),
    ],
)
def test_a_study_that_cannot_be_is_refused_by_name(study_file, tmp_path, changes, message):
    tree = yaml.safe_load(study_file.read_text()) | changes
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=message):
        read_table_study(path, [])


def test_labels_say_what_the_file_said():
    tables = TableStudyConfig.model_validate({"run": "x", "tables": TABLES}).tables
    labels = ["hashed hash", "low_rank", "clustered hashed_share=0.0", "quantized"]
    assert [label_of(table) for table in tables] == labels


def test_a_study_of_tables_keeps_every_table_at_full_width(result, tmp_path):
    step = Step(command="recsys study configs/circle_tables.yaml")
    keep_study(Origin(tmp_path / "tables.json", (step,), ()), result)
    kept = read_results(tmp_path / "tables.json")
    assert kept.seeds == (0, 1)
    assert kept.find(result.content.dense, None, "bytes").value == 1
    assert kept.find("hashed hash, 0.5", None, "keeps").unit == "share"
