"""Spellings of a table that were once read wrong, or ended in a trace."""

import io
import zipfile

import numpy as np
import polars as pl
import pytest

from data_prep import PrepareOptions, prepare
from recsys.errors import DataError

ROWS = [("1", "10", 1_417_421_000, "3"), ("1", "11", 1_417_507_461, "4")]
HEADER = "user_id,item_id,timestamp,rating\n"


def text(rows=ROWS, time=str):
    return HEADER + "".join(f"{u},{i},{time(t)},{r}\n" for u, i, t, r in rows)


def prepared(folder, content, name="rows.csv", kind="csv", **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare(kind, PrepareOptions(**options), source=path, out=folder / "out")


def refused(folder, content, match, **options):
    with pytest.raises(DataError, match=match):
        prepared(folder, content, **options)
    assert not (folder / "out").exists()


def test_times_that_a_spreadsheet_has_shortened_are_refused(tmp_path):
    refused(tmp_path, text(time=lambda t: f"{t:.5E}"), r"1\.41742E\+09.*where a time is expected")


def test_times_of_long_exponents_are_read(tmp_path):
    whole = prepared(tmp_path, text()).manifest.content_hash
    long = prepared(tmp_path, text(time=lambda t: f"{t:.9E}"))
    assert long.manifest.content_hash == whole


def test_times_of_32_bits_are_told_to_be_rounded(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}).with_columns(
        timestamp=pl.Series(np.array([t for _, _, t, _ in ROWS], np.float32))
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    dataset = prepared(tmp_path, buffer.getvalue(), "rows.parquet", "parquet")
    assert any("rounds times of our days" in note for note in dataset.manifest.notes)


def test_a_pattern_of_four_digits_does_not_read_the_year_14(tmp_path):
    content = HEADER + "1,10,01/12/14,3\n1,11,02/12/14,4\n"
    refused(tmp_path, content, "01/12/14.*where a time is expected", time_format="%d/%m/%Y")


def test_an_offset_that_no_zone_has_is_no_time(tmp_path):
    content = HEADER + "1,10,2014-12-01T08:03:20+99:99,3\n"
    refused(tmp_path, content, r"\+99:99.*where a time is expected")


def test_times_beyond_the_calendar_are_no_trace(tmp_path):
    content = text(time=lambda t: f"{t}000000000000")
    assert prepared(tmp_path, content).num_users == 1


@pytest.mark.parametrize("rating", ["inf", "1e39"])
def test_an_infinite_rating_is_refused(tmp_path, rating):
    content = text([(*ROWS[0][:3], rating), ROWS[1]])
    refused(tmp_path, content, f"'{rating}' where a number is expected")


@pytest.mark.parametrize("mark", ["\u200b", "\u200e", "\u2060"])
def test_marks_that_nobody_sees_make_no_other_user(tmp_path, mark):
    content = text([(f"1{mark}", *ROWS[0][1:]), ROWS[1]])
    assert prepared(tmp_path, content).num_users == 1


def test_utf_16_without_its_mark_is_refused_and_no_trace(tmp_path):
    refused(tmp_path, text(), "is not utf-16", encoding="utf-16")


def test_an_archive_that_holds_a_name_twice_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rows.csv", text(ROWS[:1]))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("rows.csv", text(ROWS[1:]))
    refused(tmp_path, buffer.getvalue(), "holds rows.csv twice", name="rows.zip")


def test_a_copy_left_in_a_folder_of_parts_is_told(tmp_path, capsys):
    parts = tmp_path / "parts"
    parts.mkdir()
    for name in ("a.csv", "a (1).csv"):
        (parts / name).write_text(text())
    prepare("csv", source=parts, out=tmp_path / "out")
    assert "hold the same bytes" in capsys.readouterr().err


def test_an_item_whose_id_a_spreadsheet_has_shortened_is_refused(tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n1.00000E+01,lost\n11,kept\n")
    refused(tmp_path, text(), "1.00000E.*lost digits", item_file=items)
