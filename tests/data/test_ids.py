"""One rule for ids: whatever stands for the same id is the same text."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from recsys.data.parsing.ids import read_ids
from recsys.errors import DataError


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["3", "3.0", " 3 ", "3.00", "\ufeff3", "3\xa0", "3\r"], None, ["3"] * 7),
        ([3.0, None, float("nan")], pl.Float64, ["3", None, None]),
        ([3, 2**63], pl.UInt64, ["3", "9223372036854775808"]),
        ([Decimal(3), Decimal("4.00")], None, ["3", "4"]),
        (
            ["007", "7", "07.0", "1.5", "1.50", "-2.0"],
            None,
            ["007", "7", "07.0", "1.5", "1.50", "-2"],
        ),
        (["1e+05", "1.2e+07", "1e10", "E+5"], None, ["100000", "12000000", "1e10", "E+5"]),
        (["a b", "", "  ", "NaN", None], None, ["a b", None, None, None, None]),
        ([b"a ", b"b"], pl.Binary, ["a", "b"]),
        (["a", "b "], pl.Categorical, ["a", "b"]),
        (["x"], pl.Enum(["x"]), ["x"]),
        ([9007199254740991.0], pl.Float64, ["9007199254740991"]),
    ],
)
def test_an_id_is_the_same_text_however_it_was_stored(values, dtype, expected):
    assert read_ids(pl.Series(values, dtype=dtype), "ids").text.to_list() == expected


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1.0, 9007199254740992.0], pl.Float64, "has lost digits of the id.* in row 1"),
        ([16777216.0], pl.Float32, "has lost digits"),
        (["12345678901234568.0"], None, "has lost digits"),
        (["1.23457E+12"], None, "has lost digits"),
        (["1.2345678901234568e+17"], None, "has lost digits"),
        ([1.5], None, "holds 1.5 in row 0 where an id is expected"),
        ([float("inf")], None, "holds inf"),
        ([Decimal("1.5")], None, "holds Decimal"),
        ([{"id": 1}], None, "holds Struct"),
        ([[1]], None, "holds List"),
        ([True], None, "holds Boolean"),
        ([date(2010, 1, 1)], None, "holds Date"),
        ([b"\xff\xfe"], None, "bytes that are not text"),
    ],
)
def test_what_is_no_id_or_was_one_is_refused_by_name(values, dtype, message):
    with pytest.raises(DataError, match=f"sku .*{message}"):
        read_ids(pl.Series(values, dtype=dtype), "sku")


def test_how_many_ids_were_changed_is_told():
    notes = read_ids(pl.Series(["a ", " b", "c", "3.0"]), "sku").notes
    assert notes == (
        "sku: blanks around 2 ids are left out",
        "sku: 1 whole numbers written like 3.0 are read as 3",
    )
