"""Encoding with networks made up here: what they would give is known."""

import json
import signal
import time

import numpy as np
import polars as pl
import pytest

from data_prep.item_features.encoding import BadInputError, Job, run
from data_prep.item_features.text_inputs import TextInputs
from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.errors import DataError
from tests.forked import Child

N = 23


class Lengths:
    """The vector of a text is its length and its first letter; counts what it is asked."""

    name, sha256 = "lengths 1.0", "0" * 64

    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def encode(self, batch):
        self.asked += batch
        if self.stop_after is not None and len(self.asked) > self.stop_after:
            raise KeyboardInterrupt
        return np.array([[len(text), ord(text[0])] for text in batch], np.float32)


class Given:
    source, notes, fingerprint = "given texts", (), "f"

    def __init__(self, texts, broken=()):
        self.texts, self.broken = texts, set(broken)
        self.items = np.array([i for i, text in enumerate(texts) if text], np.int64)

    def load(self, item):
        if item in self.broken:
            raise BadInputError(f"{self.texts[item]} is broken")
        return self.texts[item]


@pytest.fixture
def folder(tmp_path):
    ids = [f"i{i}" for i in range(N)]
    frame = pl.DataFrame({"user_id": ["u"] * N, "item_id": ids})
    return write_dataset(tmp_path / "data", frame, name="small").folder


TEXTS = ["" if i % 5 == 4 else chr(97 + i) * (i + 1) for i in range(N)]
EXPECTED = [[len(t), ord(t[0])] if t else [0, 0] for t in TEXTS]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_input_is_encoded_once_in_batches_and_the_others_are_marked(folder, batch_size):
    encoder = Lengths()
    manifest = run(Job(folder, "text", encoder, Given(TEXTS), batch_size))
    feature = load_features(folder, verify=True).vectors["text"]
    assert feature.vectors.tolist() == EXPECTED
    assert feature.vectors.dtype == np.float16
    assert feature.present.tolist() == [bool(text) for text in TEXTS]
    assert encoder.asked == [text for text in TEXTS if text]
    assert (manifest.origin.encoder, manifest.origin.encoder_sha256) == ("lengths 1.0", "0" * 64)
    left = sorted(part.name for part in (folder / "features").iterdir())
    assert left == [".text.lock", "text"]  # the lock of who encodes stays, empty


def test_a_broken_off_run_goes_on_and_its_files_are_those_of_an_unbroken_one(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Job(folder, "text", Lengths(stop_after=10), Given(TEXTS), 4))
    assert load_features(folder).names == ()
    second = Lengths()
    run(Job(folder, "text", second, Given(TEXTS), 3))
    assert second.asked == [text for text in TEXTS if text][8:]
    files = {p.name: p.read_bytes() for p in (folder / "features" / "text").iterdir()}
    run(Job(folder, "text", Lengths(), Given(TEXTS), 4))
    assert files == {p.name: p.read_bytes() for p in (folder / "features" / "text").iterdir()}


def test_what_was_done_by_another_encoder_or_from_other_inputs_does_not_count(folder):
    for change in ("encoder", "inputs"):
        with pytest.raises(KeyboardInterrupt):
            run(Job(folder, "text", Lengths(stop_after=10), Given(TEXTS), 4))
        encoder, inputs = Lengths(), Given(TEXTS)
        if change == "encoder":
            encoder.sha256 = "1" * 64
        else:
            inputs.fingerprint = "g"
        run(Job(folder, "text", encoder, inputs, 4))
        assert len(encoder.asked) == len(inputs.items)


@pytest.mark.parametrize("damage", ["state", "vectors", "cut"])
def test_damaged_leftovers_mean_starting_anew(folder, damage):
    with pytest.raises(KeyboardInterrupt):
        run(Job(folder, "text", Lengths(stop_after=10), Given(TEXTS), 4))
    partial = folder / "features" / ".text.partial"
    if damage == "state":
        (partial / "state.json").write_text('{"key"')
    elif damage == "vectors":
        (partial / "vectors.npy").unlink()
    else:
        (partial / "vectors.npy").write_bytes((partial / "vectors.npy").read_bytes()[:40])
    encoder = Lengths()
    run(Job(folder, "text", encoder, Given(TEXTS), 4))
    assert len(encoder.asked) == sum(map(bool, TEXTS))
    assert load_features(folder).vectors["text"].vectors.tolist() == EXPECTED


def test_a_broken_input_is_skipped_counted_and_named(folder):
    manifest = run(Job(folder, "text", Lengths(), Given(TEXTS, broken=[0, 7]), 4))
    feature = load_features(folder).vectors["text"]
    assert np.flatnonzero(~feature.present).tolist() == [0, 4, 7, 9, 14, 19]
    assert manifest.origin.notes == (
        "2 broken inputs skipped (item 'i0': a is broken; item 'i7': hhhhhhhh is broken)",
    )


def test_broken_inputs_are_remembered_over_a_break(folder):
    with pytest.raises(KeyboardInterrupt):
        run(Job(folder, "text", Lengths(stop_after=10), Given(TEXTS, broken=[0]), 4))
    manifest = run(Job(folder, "text", Lengths(), Given(TEXTS), 4))
    assert "1 broken inputs skipped (item 'i0'" in manifest.origin.notes[0]


def test_when_most_inputs_are_broken_something_else_is_wrong(tmp_path):
    frame = pl.DataFrame({"user_id": ["u"] * 200, "item_id": [str(i) for i in range(200)]})
    folder = write_dataset(tmp_path / "data", frame, name="n").folder
    encoder = Lengths()
    with pytest.raises(DataError, match=r"60 of 60 inputs are broken.*x is broken"):
        run(Job(folder, "text", encoder, Given(["x"] * 200, broken=range(200)), 20))
    assert load_features(folder).names == ()


def test_no_input_at_all_is_told(folder):
    with pytest.raises(DataError, match="no item has an input in given texts"):
        run(Job(folder, "text", Lengths(), Given([""] * N), 4))


def test_a_network_that_gives_nan_is_refused(folder):
    encoder = Lengths()
    encoder.encode = lambda batch: np.full((len(batch), 2), np.nan, np.float32)
    with pytest.raises(DataError, match="gave NaN"):
        run(Job(folder, "text", encoder, Given(TEXTS), 4))


SCRIPT = """
import sys, time, numpy as np
from pathlib import Path
from tests.data_prep.item_features.test_encoding import TEXTS, Given, Lengths
from data_prep.item_features.encoding import Job, run
encoder = Lengths()
plain = encoder.encode
def slow(batch):
    time.sleep(0.05)
    return plain(batch)
encoder.encode = slow
run(Job(Path(sys.argv[1]), "text", encoder, Given(TEXTS), 1))
"""


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(folder):
    child = Child("-c", SCRIPT, folder)
    state = folder / "features" / ".text.partial" / "state.json"
    while child.poll() is None and not (
        state.exists() and json.loads(state.read_text())["done"] >= 5
    ):
        time.sleep(0.01)
    assert child.kill() == -signal.SIGKILL
    assert load_features(folder).names == ()
    encoder = Lengths()
    run(Job(folder, "text", encoder, Given(TEXTS), 1))
    assert 0 < len(encoder.asked) <= sum(map(bool, TEXTS)) - 5
    assert load_features(folder).vectors["text"].vectors.tolist() == EXPECTED


@pytest.fixture
def titled(tmp_path):
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "genres": ["Crime|Drama", "War", " "],
            "title": ["Heat (1995)", None, ""],
            "categories": [["x", "y"], None, []],
            "price": [1.5, 2.0, None],
        }
    )
    frame = pl.DataFrame({"user_id": ["u", "u", "u"], "item_id": ["a", "b", "c"]})
    return write_dataset(tmp_path / "titled", frame, name="t", items=items).folder


def test_texts_are_the_usual_columns_in_their_order_without_what_is_absent(titled):
    inputs = TextInputs(titled)
    assert inputs.items.tolist() == [0, 1]
    assert [inputs.load(i) for i in (0, 1)] == ["Heat (1995). x, y. Crime, Drama", "War"]
    assert inputs.source == "columns title, categories, genres of items.parquet"
    assert inputs.notes == ("1 of 3 items have no text",)


def test_texts_of_named_columns(titled):
    assert TextInputs(titled, ["price", "title"]).load(0) == "1.5. Heat (1995)"
    assert TextInputs(titled, ["title"]).fingerprint != TextInputs(titled).fingerprint


def test_columns_that_are_not_there_are_named(titled, folder):
    with pytest.raises(DataError, match="no column 'brand'; its content columns are genres"):
        TextInputs(titled, ["brand"])
    with pytest.raises(DataError, match="its content columns are none"):
        TextInputs(folder)
