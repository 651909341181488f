import numpy as np
import polars as pl
import pytest

from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from tests.command import invoke


@pytest.fixture
def folder(tmp_path):
    items = pl.DataFrame({"item_id": ["a", "b"], "genres": ["War|Drama", "War"]})
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"]})
    return write_dataset(tmp_path / "data", frame, name="small", items=items).folder


def test_attach_and_columns_say_what_they_wrote(folder, tmp_path):
    np.savez(tmp_path / "v.npz", id=np.array(["b"]), vectors=np.ones((1, 3), np.float32))
    result = invoke("attach", folder, tmp_path / "v.npz", "--modality", "audio", "--encoder", "x 1")
    assert result.stdout == "audio: vectors for 1 of 2 items, size 3\n"
    assert "content found for 1 of 2 items in v.npz" in result.stderr
    result = invoke("columns", folder, "genres", "--min-count", 1)
    assert result.stdout == "genres: categories for 2 of 2 items, size 2\n"
    assert load_features(folder).names == ("audio", "genres")
    result = invoke("columns", folder, "genres", "--as", "numbers")
    assert result.exit_code and "holds 'War|Drama'" in " ".join(result.output.split())
    assert "is not among" in invoke("columns", folder, "genres", "--as", "text").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--modality", "sound"), "'sound' is not among"),
        (("--modality", "image"), "give --images PATH"),
        (("--modality", "text", "--columns", "title"), "no column 'title'"),
    ],
)
def test_mistakes_are_told_in_one_message(folder, words, message):
    result = invoke("encode", folder, *words)
    assert result.exit_code
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
