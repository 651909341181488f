"""What is known of users: from frames, files and MovieLens, kept in growth; the hash stays."""

import polars as pl
import pytest

from data_prep import PrepareOptions, prepare
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.features.user_columns import UserColumns, user_features
from recsys.errors import ConfigError, DataError

ROWS = pl.DataFrame({"user": ["b", "a", "c"], "item": ["x", "y", "x"]})
NUMBERS = UserColumns(numbers=("age",))
PEOPLE = pl.DataFrame({"user": ["a", "b", "nobody"], "age": [31, 40, 99]})


def ages(dataset):
    return dict(zip(*(dataset.user_frame()[name] for name in ("user_id", "age")), strict=True))


def test_a_frame_of_users_is_met_by_id():
    made = Dataset.from_frame(ROWS, user="user", item="item", order="given", users=PEOPLE)
    assert ages(made) == {"a": 31, "b": 40, "c": None}
    assert any("content found for 2 of 3 users" in note for note in made.manifest.notes)
    plain = Dataset.from_frame(ROWS, user="user", item="item", order="given")
    assert plain.manifest.content_hash == made.manifest.content_hash
    grown = Dataset.from_frame(
        pl.DataFrame({"user": ["d", "a"], "item": ["x", "z"]}),
        user="user", item="item", order="given", like=made, append=True,
        users=pl.DataFrame({"user": ["d", "a"], "age": [7, 32]}),
    )  # fmt: skip
    assert ages(grown) == {"a": 32, "b": 40, "c": None, "d": 7}
    assert ages(
        Dataset.from_frame(ROWS, user="user", item="item", order="given", like=made)
    ) == ages(made)


def test_users_of_nobody_are_refused():
    with pytest.raises(DataError, match="no id of the user content is a user"):
        Dataset.from_frame(
            ROWS, user="user", item="item", order="given",
            users=pl.DataFrame({"user": ["e"], "age": [1]}),
        )  # fmt: skip


def test_a_user_file_is_read_by_prepare(tmp_path):
    (tmp_path / "rows.csv").write_text("user_id,item_id\n1,x\n2,y\n")
    (tmp_path / "people.csv").write_text("who;age\n2;40\n1;31\n")
    options = PrepareOptions(
        user_file=tmp_path / "people.csv", user_file_id_column="who", user_file_delimiter=";"
    )
    prepare("csv", options, source=tmp_path / "rows.csv", out=tmp_path / "data")
    assert {k: int(v) for k, v in ages(load_dataset(tmp_path / "data")).items()} == {
        "1": 31,
        "2": 40,
    }
    found = user_features(load_dataset(tmp_path / "data").user_frame(), NUMBERS, "data")
    assert found.numbers["age"].values.tolist() == [31, 40]
    wrong = PrepareOptions(user_file=tmp_path / "people.csv", user_file_delimiter=";")
    with pytest.raises(DataError, match="user_file_id_column"):
        prepare("csv", wrong, source=tmp_path / "rows.csv", out=tmp_path / "other")
    with pytest.raises(ConfigError, match="does not read user_file"):
        prepare("ml-1m", wrong, source=tmp_path / "rows.csv", out=tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "ml-1m",
            {
                "ratings.dat": "1::10::5::978300760\n2::10::3::978300761\n",
                "movies.dat": "10::Film (1999)::Drama\n",
                "users.dat": "1::F::25::10::48067\n2::M::56::16::70072\n",
            },
        ),
        (
            "ml-100k",
            {
                "u.data": "1\t10\t5\t881250949\n2\t10\t3\t881250950\n",
                "u.item": "10|Film (1999)|01-Jan-1999|||" + "|".join(["0"] * 19) + "\n",
                "u.user": "1|25|F|writer|85711\n2|56|M|other|94043\n",
            },
        ),
    ],
)
def test_movielens_brings_age_gender_and_occupation(name, files, tmp_path):
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    frame = prepare(name, source=tmp_path, out=tmp_path / "out").user_frame()
    assert frame["age"].to_list() == [25, 56] and frame["gender"].to_list() == ["F", "M"]
    assert frame["occupation"].len() == 2
    broken = next(file for file in files if "user" in file)
    (tmp_path / broken).write_text("1\n")
    with pytest.raises(DataError, match=f"{broken} line 1 has 1 fields"):
        prepare(name, source=tmp_path, out=tmp_path / "out")
