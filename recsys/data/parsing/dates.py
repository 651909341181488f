"""Written dates: the format is found from all rows of a column.

    2010-12-01   2010-12-01T08:26:00.5+01:00   20.12.2010 08:26   12/1/10 8:26 AM   2010/12/01

Times without an offset are taken as UTC; of two digits of a year POSIX makes 1969 to 2068.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import polars as pl

from recsys.errors import DataError

Reading = Literal["year-first", "day-first", "month-first"]
READINGS: tuple[Reading, ...] = get_args(Reading)
Collect = Callable[[pl.LazyFrame], pl.DataFrame]

_PARTS: dict[Reading, tuple[str, str, str]] = {
    "year-first": ("a", "b", "c"),
    "day-first": ("c", "b", "a"),
    "month-first": ("c", "a", "b"),
}
"""Where year, month and day stand."""
_DATE = r"(?P<a>\d{1,4})(?P<sep>[-./])(?P<b>\d{1,2})(?P<sep2>[-./])(?P<c>\d{1,4})"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
_ZONE = r"(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
_PATTERN = rf"^{_DATE}(?:(?:T|,?\s+){_CLOCK}(?:\s*(?P<half>[AaPp]\.?[Mm]\.?))?(?:\s*{_ZONE})?)?$"
_HOURS_AHEAD = 15
"""No zone has been further from UTC than fifteen hours and some minutes."""
_PIVOT = 69
"""POSIX: 69 to 99 are 1969 to 1999, 0 to 68 are 2000 to 2068."""


def is_date(text: pl.Expr) -> pl.Expr:
    """Has the shape of a date; whether there is such a day is not looked at."""
    return text.str.contains(_PATTERN)


def choose_reading(frame: pl.LazyFrame, what: str, collect: Collect) -> tuple[Reading, str]:
    """The one reading that all rows allow.

    Args:
        frame: a column `text`, blanks at its ends and absent values left out.
        what: names the column in errors.
        collect: runs a query.

    Returns:
        The reading, and what to say of it.

    Raises:
        DataError: rows allow two readings or none, or offsets are told in some rows alone.
    """
    found = collect(_survey(frame)).row(0, named=True)
    _check_zones(found, what)
    if found["year_first"] * 2 > found["rows"]:
        return "year-first", f"{what}: dates are read year-first ({found['text']!r})"
    open_, fits = _possible(found)
    if not fits:
        raise DataError(
            f"{what} holds {found['late_a'] or found['text']!r} and "
            f"{found['late_b'] or found['late_c']!r}, which no order of day, month and year fits; "
            "bring them to one, like 2010-12-01"
        )
    if len(fits) > 1 and open_:
        readings = " or ".join(
            f"{_shown(found['open'], reading)} (time_format={reading})" for reading in fits
        )
        raise DataError(
            f"{what} holds {found['open']!r}, which is {readings}, and no row decides; say which"
        )
    note = f"{what}: dates are read {fits[0]} ({found['text']!r})"
    note += ", as dates with dots are written" if len(fits) > 1 and found["dots"] else ""
    return fits[0], note + ("; years of two digits are 1969 to 2068" if found["short"] else "")


def _possible(found: dict[str, Any]) -> tuple[bool, list[Reading]]:
    """Must a row decide between them? And the readings that no row contradicts."""
    a, b, c = (found[f"max_{part}"] or 0 for part in "abc")
    fits: list[Reading] = []
    if a <= 31 and b <= 12:
        fits.append("day-first")
    if a <= 12 and b <= 31:
        fits.append("month-first")
    # 10-12-01: with strokes and dots years of two digits are written last.
    if found["short"] == found["rows"] == found["dashes"] and b <= 12 and c <= 31:
        fits.append("year-first")
    # Nobody writes dots between the parts of a date and puts the month first.
    return found["open"] is not None and found["dots"] < found["rows"], fits


def _survey(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Of all rows what decides between the readings."""
    text = pl.col("text")
    parts = frame.with_columns(text.str.extract_groups(_PATTERN).struct.unnest())
    numbers = {part: pl.col(part).cast(pl.Int32, strict=False) for part in "abc"}
    a, b, c = numbers.values()
    clock, zone = pl.col("hour").is_not_null(), pl.col("zone").is_not_null()
    two = (pl.col("a").str.len_bytes() <= 2) & (pl.col("c").str.len_bytes() <= 2)
    first_year = pl.col("a").str.len_bytes() == 4
    dated = ~first_year
    return parts.select(
        rows=pl.col("a").count(),
        year_first=first_year.sum(),
        short=two.sum(),
        dots=(pl.col("sep") == ".").sum(),
        dashes=(pl.col("sep") == "-").sum(),
        max_a=a.filter(dated).max(),
        max_b=b.filter(dated).max(),
        max_c=c.filter(dated).max(),
        text=text.filter(pl.col("a").is_not_null()).first(),
        late_a=text.filter(dated & (a > 12)).first(),
        late_b=text.filter(dated & (b > 12)).first(),
        late_c=text.filter(dated & (c > 12)).first(),
        open=text.filter(dated & ((a != b) | (two & (pl.col("sep") == "-")))).first(),
        zoned=text.filter(clock & zone).first(),
        unzoned=text.filter(clock & ~zone).first(),
    )


def _check_zones(found: dict[str, Any], what: str) -> None:
    if found["zoned"] is not None and found["unzoned"] is not None:
        raise DataError(
            f"{what} holds {found['zoned']!r}, with an offset from UTC, and {found['unzoned']!r}, "
            "without one; write it in all rows or in none"
        )


def _shown(text: str, reading: Reading) -> str:
    """What a text is in one reading: 2010-12-01."""
    return str(pl.select(instant(pl.lit(text), reading)).item().date())


def instant(text: pl.Expr, reading: Reading) -> pl.Expr:
    """Datetime (microseconds, UTC); null where a text is no such date, or there is no such day."""
    return text.map_batches(
        lambda texts: _parsed(texts, reading), return_dtype=pl.Datetime("us"), is_elementwise=True
    )


def _parsed(texts: pl.Series, reading: Reading) -> pl.Series:
    """One block: each distinct text once, and cut into its parts once."""
    asked = texts.alias("text").to_frame()
    parts = asked.unique().with_columns(pl.col("text").str.extract_groups(_PATTERN).struct.unnest())
    year, month, day = (pl.col(name) for name in _PARTS[reading])
    midnight = _day(_year(year), _number(month), _number(day))
    whole = pl.when(pl.col("sep") == pl.col("sep2")).then(midnight + _clock() - _offset())
    known = parts.select("text", instant=whole.cast(pl.Datetime("us")))
    return asked.join(known, on="text", how="left", maintain_order="left")["instant"]


def _number(digits: pl.Expr) -> pl.Expr:
    return digits.cast(pl.Int32, strict=False)


def _year(digits: pl.Expr) -> pl.Expr:
    number, length = _number(digits), digits.str.len_bytes()
    short = number + pl.when(number < _PIVOT).then(2000).otherwise(1900)
    return pl.when(length == 2).then(short).when((length == 4) & (number >= 1000)).then(number)


def _day(year: pl.Expr, month: pl.Expr, day: pl.Expr) -> pl.Expr:
    """Midnight; null where the month has no such day."""
    months = pl.when(month.is_between(1, 12)).then(month)
    years = pl.when(months.is_not_null()).then(year)
    first = pl.when(years.is_not_null()).then(
        pl.datetime(years.fill_null(1970), months.fill_null(1), 1)
    )
    found = first + pl.duration(days=day - 1)
    return pl.when((found.dt.month() == month) & (day >= 1)).then(found)


def _clock() -> pl.Expr:
    """Time since midnight; null where there is no such time."""
    hour, minute, second = (
        _number(pl.col(name)).fill_null(0) for name in ("hour", "minute", "second")
    )
    half = pl.col("half").str.to_lowercase().str.slice(0, 1)
    twelve = hour.is_between(1, 12)
    hour = (
        pl.when(half.is_null())
        .then(hour)
        .when(twelve)
        .then(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    )
    part = pl.col("part").str.pad_end(9, "0").cast(pl.Int64, strict=False)
    there = hour.is_between(0, 23) & (minute <= 59) & (second <= 60)
    time = pl.duration(
        hours=hour, minutes=minute, seconds=second, microseconds=part.fill_null(0) // 1000
    )
    return pl.when(there).then(time)


def _offset() -> pl.Expr:
    zone = pl.col("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    digits = zone.str.replace_all(r"\D", "")
    hours = _number(digits.str.slice(0, 2)).fill_null(0)
    minutes = _number(digits.str.slice(2, 2)).fill_null(0)
    there = (hours <= _HOURS_AHEAD) & (minutes < 60)
    return pl.when(there).then(pl.duration(minutes=sign * (hours * 60 + minutes)))
