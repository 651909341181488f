from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import PrepareOptions, attach, featurize_columns, prepare
from data_prep.item_features.attach import match_rows
from recsys.data.dataset import load_dataset, write_dataset
from recsys.data.features.loading import load_features
from recsys.errors import DataError

FRAME = pl.DataFrame({"user_id": ["u", "u", "v", "v"], "item_id": ["007", "b", "c", "d"]})
ITEMS = pl.DataFrame(
    {
        "item_id": ["007", "b", "c", "d"],
        "title": ["Heat (1995)", "Up", "It (1990) ", None],
        "genres": ["Crime|Drama", "", None, "Drama| Crime|Drama"],
        "tags": [["x", "y"], [], None, ["y"]],
        "price": [1.5, None, float("nan"), 0.0],
    }
)
IDS, VECTORS = ["c", "zz", "007"], np.array([[3, 3], [9, 9], [1, 1]], np.float32)


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "data", FRAME, name="small", items=ITEMS).folder


def save(path, ids=IDS, vectors=VECTORS):
    if path.suffix == ".npz":
        np.savez(path, item_id=np.array(ids), feat=vectors)
    elif path.suffix == ".parquet":
        pl.DataFrame({"item_id": ids, "vector": vectors.tolist()}).write_parquet(path)
    else:
        np.save(path, vectors)
        path.with_name("ids.txt").write_text("".join(f"{i}\n" for i in ids))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".npy"])
def test_vectors_go_to_their_items_and_the_others_are_marked(folder, tmp_path, suffix):
    path = save(tmp_path / f"v{suffix}")
    ids = tmp_path / "ids.txt" if suffix == ".npy" else None
    manifest = attach(folder, path, name="text", ids=ids, encoder="some net 1.0")
    feature = load_features(folder).vectors["text"]
    assert feature.vectors.tolist() == [[1, 1], [0, 0], [3, 3], [0, 0]]
    assert feature.present.tolist() == [True, False, True, False]
    assert manifest.origin.encoder == "some net 1.0"
    assert manifest.origin.source == path.name
    assert manifest.origin.notes == (
        f"2 of 4 items have nothing in {path.name}",
        f"1 of 3 ids of {path.name} are not items",
    )


def test_whole_numbers_as_ids_are_the_text_of_those_numbers(tmp_path):
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["12", "3"]})
    folder = write_dataset(tmp_path / "d", frame, name="n").folder
    attach(folder, save(tmp_path / "v.npz", np.array([3, 12]), VECTORS[:2]), name="text")
    assert load_features(folder).vectors["text"].vectors[:, 0].tolist() == [9, 3]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 20), unique=True, min_size=1),
    st.lists(st.integers(0, 20), unique=True, min_size=1),
)
def test_rows_are_those_a_dictionary_finds(ours, theirs):
    left, right = pl.Series(map(str, ours)), pl.Series(map(str, theirs))
    if not set(ours) & set(theirs):
        with pytest.raises(DataError, match="no id"):
            match_rows(left, right, "x")
        return
    where = {value: row for row, value in enumerate(theirs)}
    assert match_rows(left, right, "x")[0].tolist() == [where.get(value, -1) for value in ours]


def test_ids_of_another_world_are_refused_with_both_shown(folder, tmp_path):
    path = save(tmp_path / "v.npz", ["tt1", "tt2", "tt3"])
    with pytest.raises(DataError, match=r"'tt1'.*the data set has '007'"):
        attach(folder, path, name="text")


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("v.npz", {"a": np.zeros((3, 2))}, "one array of ids"),
        ("v.npz", {"i": np.arange(3), "a": np.zeros((3, 2)), "b": np.ones((3, 2))}, "b \\(3, 2\\)"),
        ("v.npz", {"i": np.arange(2), "a": np.zeros((3, 2))}, "2 ids and vectors of shape"),
        (
            "v.npz",
            {"i": np.array([1, 1, 2]), "a": np.zeros((3, 2))},
            "1 ids more than once.*'1'",
        ),
        ("v.npz", {"i": np.arange(3) / 2, "a": np.zeros((3, 2))}, "ids holds 0.5 in row 1"),
    ],
)
def test_malformed_archives_are_refused(folder, tmp_path, name, arrays, message):
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(DataError, match=message):
        attach(folder, tmp_path / name, name="text")


def test_pickles_inside_are_never_opened(folder, tmp_path):
    np.savez(tmp_path / "v.npz", i=np.array([{"a": 1}], dtype=object), a=np.zeros((1, 2)))
    with pytest.raises(DataError, match="is a pickle and is not opened"):
        attach(folder, tmp_path / "v.npz", name="text")


def test_other_mistakes_are_named(folder, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        attach(folder, tmp_path / "absent.npz", name="text")
    (tmp_path / "v.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"none of \.npz, \.npy and \.parquet"):
        attach(folder, tmp_path / "v.csv", name="text")
    with pytest.raises(DataError, match=r"--ids FILE goes with a \.npy"):
        attach(folder, save(tmp_path / "v.npy"), name="text")
    (tmp_path / "cut.npz").write_bytes(save(tmp_path / "v.npz").read_bytes()[:-30])
    with pytest.raises(DataError, match="not a complete npz"):
        attach(folder, tmp_path / "cut.npz", name="text")
    pl.DataFrame({"item_id": ["b", "c"], "v": [[1.0], [1.0, 2.0]]}).write_parquet(
        tmp_path / "p.parquet"
    )
    with pytest.raises(DataError, match="unequal length"):
        attach(folder, tmp_path / "p.parquet", name="text")


def test_every_kind_of_feature_follows_its_items_through_other_filters(folder, tmp_path):
    attach(folder, save(tmp_path / "v.npz"), name="text")
    featurize_columns(folder, ["genres", "price"], min_count=1)
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,item_id\n1,d\n1,new\n2,d\n2,c\n1,c\n1,007\n2,007\n")
    other = prepare("csv", PrepareOptions(min_item_count=2), source=rows, out=tmp_path / "other")
    assert other.item_frame()["item_id"].to_list() == ["d", "c", "007"]
    for name in ("text", "genres", "price"):
        attach(other.folder, folder, name=name)
    features = load_features(other.folder)
    assert features.vectors["text"].vectors.tolist() == [[0, 0], [3, 3], [1, 1]]
    assert features.vectors["text"].present.tolist() == [False, True, True]
    assert features.numbers["price"].values.tolist() == [0, 0, 1.5]
    assert features.numbers["price"].present.tolist() == [True, False, True]
    genres = features.categories["genres"]
    values, offsets = genres.rows(np.arange(3))
    assert [[genres.names[v] for v in values[a:b]] for a, b in pairwise(offsets)] == [
        ["Drama", "Crime"],
        [],
        ["Crime", "Drama"],
    ]


def test_a_data_set_with_features_is_not_replaced(folder, tmp_path):
    attach(folder, save(tmp_path / "v.npz"), name="text")
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,item_id\n1,d\n")
    with pytest.raises(DataError, match="holds the features text"):
        prepare("csv", source=rows, out=folder)
    assert load_dataset(folder).num_items == 4


def test_columns_become_categories_numbers_and_a_year(folder):
    manifests = featurize_columns(folder, ["genres", "tags", "price", "year"], min_count=1)
    assert [(m.name, m.kind, m.num_present, m.size) for m in manifests] == [
        ("genres", "categories", 2, 2),
        ("tags", "categories", 2, 2),
        ("price", "numbers", 2, 1),
        ("year", "numbers", 2, 1),
    ]
    features = load_features(folder)
    genres = features.categories["genres"]
    assert genres.names == ("Crime", "Drama")
    assert genres.offsets.tolist() == [0, 2, 2, 2, 4]
    assert genres.values.tolist() == [0, 1, 1, 0]
    assert features.numbers["year"].values.tolist() == [1995, 0, 1990, 0]


def test_a_category_of_too_few_items_is_left_out_and_told(folder):
    (manifest,) = featurize_columns(folder, ["tags"])
    assert load_features(folder).categories["tags"].names == ("y",)
    assert manifest.origin.notes == ("1 of 2 categories of fewer than 2 items are left out",)


def test_text_is_numbers_or_categories_as_it_is_asked_for(tmp_path, capsys):
    rows, items = tmp_path / "rows.csv", tmp_path / "items.csv"
    rows.write_text("user_id,item_id\n1,a\n1,b\n1,c\n")
    items.write_text("item_id,price,code,brand\na,1.5,007,x\nb,,7,y\nc,2,007,1\n")
    options = PrepareOptions(item_file=items)
    folder = prepare("csv", options, source=rows, out=tmp_path / "data").folder
    (price,) = featurize_columns(folder, ["price"], kind="numbers")
    assert (price.kind, price.num_present, price.origin.notes) == ("numbers", 2, ())
    assert load_features(folder).numbers["price"].values.tolist() == [1.5, 0, 2]
    (code,) = featurize_columns(folder, ["code"], min_count=1)
    assert load_features(folder).categories["code"].names == ("007", "7")
    assert "--as numbers" in code.origin.notes[0] and "--as numbers" in capsys.readouterr().err
    (code,) = featurize_columns(folder, ["code"], min_count=1, kind="categories")
    assert not code.origin.notes
    with pytest.raises(DataError, match=r"of at least 2 items.*make it numbers \(--as numbers"):
        featurize_columns(folder, ["price"])
    with pytest.raises(DataError, match=r"column brand .* holds 'x'.*--as categories"):
        featurize_columns(folder, ["brand"], kind="numbers")


def test_stored_numbers_can_be_categories_and_infinite_ones_are_refused(tmp_path):
    items = pl.DataFrame(
        {
            "item_id": ["b", "c", "d", "007"],
            "code": [7.0, 7.0, None, 8.0],
            "far": [1.0, np.inf, 0, 0],
        }
    )
    folder = write_dataset(tmp_path / "data", FRAME, name="small", items=items).folder
    featurize_columns(folder, ["code"], min_count=1, kind="categories")
    assert load_features(folder).categories["code"].names == ("8", "7")
    with pytest.raises(DataError, match=r"column far .* holds inf"):
        featurize_columns(folder, ["far"])


def test_columns_that_are_not_there_or_empty_are_refused(folder):
    with pytest.raises(DataError, match="no content column 'brand'; it has title, genres"):
        featurize_columns(folder, ["brand"])
    with pytest.raises(DataError, match="no category of at least 5 items"):
        featurize_columns(folder, ["genres"], min_count=5)
    with pytest.raises(DataError, match="no content column 'item_id'"):
        featurize_columns(folder, ["item_id"])


def test_real_posters_of_ml_1m_go_to_their_films(real_data, tmp_path):
    folder = real_data("ml-1m")
    options = PrepareOptions(item_column="movie_id", order_column="position")
    dataset = prepare(
        "csv", options, source=folder / "ratings_ordered.csv.gz", out=tmp_path / "ml1m"
    )
    manifest = attach(dataset.folder, folder / "poster_effnetlite0_1280_f16.npz", name="image")
    assert (manifest.num_present, manifest.num_items, manifest.size) == (3256, 3706, 1280)
    with np.load(folder / "poster_effnetlite0_1280_f16.npz", allow_pickle=False) as file:
        theirs = dict(zip(file["movie_id"].astype(str).tolist(), file["feat"], strict=True))
    feature = load_features(dataset.folder).vectors["image"]
    ids = dataset.item_frame()["item_id"].to_list()
    for index in range(0, 3706, 97):
        assert feature.present[index] == (ids[index] in theirs)
        assert np.array_equal(feature.vectors[index], theirs.get(ids[index], np.zeros(1280)))
