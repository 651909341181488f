import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.dataset import load_dataset, write_dataset
from recsys.data.features.loading import CategoricalFeature, load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.errors import ChecksumError, DataError

ORIGIN = FeatureOrigin(source="made by hand")
FRAME = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "c"]})
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)
PRESENT = np.array([True, False, True])


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "data", FRAME, name="small").folder


def test_vectors_come_back_with_zeros_where_absent(folder):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    feature = load_features(folder).vectors["text"]
    assert feature.dim == 2
    assert feature.vectors.dtype == np.float16
    assert feature.rows(np.array([2, 1, 0])).tolist() == [[4, 5], [0, 0], [0, 1]]
    assert feature.rows(np.array([2])).dtype == np.float32
    assert feature.present.tolist() == PRESENT.tolist()


def test_vectors_are_mapped_and_cannot_be_written(folder):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    vectors = load_features(folder).vectors["text"].vectors
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 1


def test_categories_and_numbers_come_back_and_what_is_absent_is_marked(folder):
    values, offsets = np.array([1, 0, 1], np.int32), np.array([0, 2, 2, 3])
    write_categories(folder, "genres", values, offsets, ["Drama", "War"], ORIGIN)
    write_numbers(folder, "price", np.array([2.5, np.nan, 1]), PRESENT, ORIGIN)
    features = load_features(folder)
    genres, price = features.categories["genres"], features.numbers["price"]
    assert genres.present.tolist() == PRESENT.tolist()
    chosen, edges = genres.rows(np.array([2, 1, 0]))
    assert ([genres.names[v] for v in chosen], edges.tolist()) == (
        ["War", "War", "Drama"],
        [0, 1, 1, 3],
    )
    assert (price.values.tolist(), price.present.tolist()) == ([2.5, 0, 1], PRESENT.tolist())
    assert features.names == ("genres", "price")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=8), st.data())
def test_rows_of_categories_are_those_a_naive_loop_finds(lists, data):
    lengths = [len(part) for part in lists]
    values = np.array([value for part in lists for value in part], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    feature = CategoricalFeature(values, offsets, tuple("abcde"))
    asked = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    found, edges = feature.rows(np.array(asked, np.int64))
    assert [found[a:b].tolist() for a, b in pairwise(edges)] == [lists[item] for item in asked]


def test_features_leave_the_content_hash_and_the_manifest_of_the_data_set_alone(folder):
    before = (folder / "dataset.json").read_bytes()
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    assert (folder / "dataset.json").read_bytes() == before
    assert load_dataset(folder, verify=True).num_items == 3


def test_the_features_hash_tells_bytes_and_names_but_not_origins(folder):
    def hash_of(name, vectors, origin=ORIGIN):
        write_vectors(folder, name, vectors, PRESENT, origin)
        return load_features(folder, [name]).features_hash

    first = hash_of("text", VECTORS)
    assert hash_of("text", VECTORS, FeatureOrigin(source="elsewhere")) == first
    assert hash_of("text", VECTORS + 1) != first
    assert hash_of("other", VECTORS) != first


def test_only_what_is_asked_for_is_loaded_and_hashed(folder):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    alone = load_features(folder).features_hash
    write_vectors(folder, "image", VECTORS, PRESENT, ORIGIN)
    assert load_features(folder, ["text"]).features_hash == alone
    assert load_features(folder).features_hash != alone
    assert load_features(folder, []).names == ()


def test_a_data_set_without_features_has_none(folder):
    assert load_features(folder).names == ()


def test_a_feature_that_is_not_there_is_refused_with_those_that_are(folder):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    with pytest.raises(DataError, match="no feature 'image'; it has text"):
        load_features(folder, ["image"])


def test_features_of_items_in_another_order_are_refused(folder, tmp_path):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    other = write_dataset(tmp_path / "other", FRAME.reverse(), name="small").folder
    (folder / "features").rename(other / "features")
    with pytest.raises(DataError, match="other items"):
        load_features(other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_a_number_that_f16_cannot_hold_is_refused_and_nothing_is_written(folder, bad):
    vectors = VECTORS.copy()
    vectors[2, 1] = bad
    with pytest.raises(DataError, match="item 'c'"):
        write_vectors(folder, "text", vectors, PRESENT, ORIGIN)
    assert load_features(folder).names == ()


def test_a_bad_number_of_an_absent_item_does_not_matter(folder):
    vectors = VECTORS.copy()
    vectors[1] = np.nan
    write_vectors(folder, "text", vectors, PRESENT, ORIGIN)
    assert load_features(folder).vectors["text"].rows(np.array([1])).tolist() == [[0, 0]]


@pytest.mark.parametrize("name", ["", "Text", "../text", ".text", "a b"])
def test_a_name_that_is_no_plain_word_is_refused(folder, name):
    with pytest.raises(DataError, match="cannot name a feature"):
        write_vectors(folder, name, VECTORS, PRESENT, ORIGIN)


def test_rows_must_be_as_many_as_items(folder):
    with pytest.raises(DataError, match="3 items"):
        write_vectors(folder, "text", VECTORS[:2], PRESENT[:2], ORIGIN)


def test_categories_beyond_their_names_are_refused(folder):
    values, offsets = np.array([2], np.int32), np.array([0, 1, 1, 1])
    with pytest.raises(DataError, match="not among its 2 names"):
        write_categories(folder, "genres", values, offsets, ["Drama", "War"], ORIGIN)


def test_a_cut_file_is_found_at_once_and_a_changed_one_when_verified(folder):
    write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    path = folder / "features" / "text" / "vectors.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    load_features(folder)
    with pytest.raises(ChecksumError, match=r"vectors\.npy"):
        load_features(folder, verify=True)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="bytes are expected"):
        load_features(folder)


def test_a_pickle_in_the_place_of_an_array_is_not_opened(folder):
    manifest = write_vectors(folder, "text", VECTORS, PRESENT, ORIGIN)
    part = folder / "features" / "text"
    np.save(part / "vectors.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    tree = manifest.model_dump(mode="json")
    tree["files"]["vectors.npy"]["size"] = (part / "vectors.npy").stat().st_size
    (part / "feature.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="cannot be read"):
        load_features(folder)
