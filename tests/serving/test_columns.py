"""What a bundle tells of its items besides their vectors: columns, popularity, where it is from."""

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.errors import ConfigError, DataError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle

SMALL = ["model.granularities.sizes=[4, 8]", "model.history_length=6", "threads=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("columns")
    rows = [(f"u{u}", f"i{(u + s) % 12}", s) for u in range(40) for s in range(6)]
    rows += [(f"late{u}", "i3", 0) for u in range(5)]
    frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    content = pl.DataFrame({"item": [f"i{i}" for i in range(12)]})
    content = content.with_columns(title=pl.col("item") + "!", year=pl.lit(1999))
    data = recsys.Dataset.from_frame(frame, user="user", item="item", time="time", items=content)
    return recsys.fit(data, "sasrec", SMALL, epochs=1).save(place / "run")


def test_columns_stand_beside_their_items(run, tmp_path):
    recsys.export(run, tmp_path / "b", columns=("title", "year"), users=False, tower=False)
    bundle = load_bundle(tmp_path / "b")
    ids = bundle.ids("item")["item_id"]
    assert bundle.columns["title"].to_list() == [f"{name}!" for name in ids]
    assert bundle.columns["year"].to_list() == [1999] * 12


def test_popularity_goes_along_without_users_and_through_a_second_export(run, tmp_path):
    recsys.export(run, tmp_path / "b", columns=("title",), users=False, tower=False)
    recsys.export(tmp_path / "b", tmp_path / "b", tiers="0:8:fp16:ram", tower=False)
    bundle = load_bundle(tmp_path / "b")
    counts = dict(zip(bundle.ids("item")["item_id"], bundle.popularity.tolist(), strict=True))
    assert counts["i3"] == max(counts.values())
    assert sum(counts.values()) == 245
    assert bundle.columns.columns == ["title"]
    assert (bundle.manifest.parent, bundle.folder.name) == ("v000001", "v000002")
    assert bundle.manifest.created_at.endswith("+00:00")


def test_a_column_that_is_not_there_is_named_before_anything_is_written(run, tmp_path):
    with pytest.raises(ConfigError, match="no column colour; they have title, year"):
        recsys.export(run, tmp_path / "b", columns=("colour",))
    assert not (tmp_path / "b").exists()
    recsys.export(run, tmp_path / "b", tower=False)
    with pytest.raises(ConfigError, match="export the run"):
        recsys.export(tmp_path / "b", tmp_path / "c", columns=("title",))


def test_columns_of_other_items_are_refused(tmp_path):
    source = BundleSource(
        items=np.eye(4, dtype=np.float32),
        item_ids=pl.Series(range(4)),
        sizes=(4,),
        columns=pl.DataFrame({"title": ["a", "b"]}),
    )
    with pytest.raises(DataError, match="4 item vectors, but 2 rows of columns"):
        write_bundle(tmp_path / "b", source, parse_tiers("0:4:fp32:ram", 4))


def test_the_table_of_tradeoff_goes_along_through_a_second_export(run, tmp_path):
    (run / "tradeoff").mkdir(exist_ok=True)
    (run / "tradeoff" / "tradeoff.csv").write_text("part,keep\nx,1\n")
    recsys.export(run, tmp_path / "b", tower=False)
    recsys.export(tmp_path / "b", tmp_path / "b", tiers="0:8:fp16:ram", tower=False)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.files["tradeoff.csv"].size == 14
    assert (bundle.folder / "tradeoff.csv").read_text() == "part,keep\nx,1\n"
