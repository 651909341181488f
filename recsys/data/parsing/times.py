"""Times in any notation as seconds since 1970.

    plan = plan_times(frame, "when", dtype, form=None, what="column 'when'", collect=...)
    times, note = settle(frame.select(plan.values) ..., None, what)    # ordered by, to the fraction
    whole_seconds(times)                                               # stored

All rows decide. What they leave open is refused with the two readings shown; `form` then says it.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recsys.data.parsing.dates import READINGS, Collect, choose_reading, instant, is_date
from recsys.errors import ConfigError, DataError

NUMBER = "number"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SAMPLE = 1000
_BLOCK = 1 << 20
_SECONDS_BELOW = 10**11
"""Seconds of the year 5138; as milliseconds it is 1973, and so on up."""
_COUNTED_BELOW = 10**8
"""As seconds still 1973: such numbers order, but tell no date."""
_SPREADSHEET = (25_569, 73_050)
"""Day numbers of spreadsheets from 1970 to 2099."""
_AS_DATES = (("%Y%m%d", 19_000_101, 21_001_231), ("%Y%m%d%H%M%S", 19 * 10**12, 21 * 10**12))
"""20101201 and 20101201082600: the pattern, from, to."""


_SHORTENED = r"^\d(?:\.\d{1,5})?[eE]\+?0?(?:9|1\d)$"
_FIRST_YEAR = 1000

_SHOWN = (-60_000_000_000, 250_000_000_000)
"""Seconds that Python has a date for."""


@dataclass(frozen=True)
class TimePlan:
    """The format in which a column of times is read."""

    values: pl.Expr
    """Int64, Float64 or Datetime (UTC); null where a value is no such time."""
    note: str | None = None
    """What was decided, where it is decided already."""
    fractions: TimePlan | None = None
    """To be tried where `values` are whole numbers and some are null."""


def finite(number: pl.Expr) -> pl.Expr:
    """Floats; null where one is infinite or no number."""
    return pl.when(number.is_finite()).then(number)


def check_form(form: str | None) -> None:
    """Is this day-first, month-first, year-first, s, ms, us, ns, number, or a pattern?

    Raises:
        ConfigError: it is none of them.
    """
    if form is None or form in (*READINGS, *_UNITS, NUMBER):
        return
    if "%" not in form or not _reads_what_it_writes(form):
        raise ConfigError(
            f"time_format {form!r} is none of {', '.join((*READINGS, *_UNITS, NUMBER))}, and no "
            "pattern of a date like '%d/%m/%Y %H:%M'"
        )


def _reads_what_it_writes(form: str) -> bool:
    some_day = pl.Series([981_173_106]).cast(pl.Datetime("ms", "UTC"))
    try:
        text = some_day.dt.strftime(form)
        return not text.str.to_datetime(form, time_unit="us", strict=False).null_count()
    except pl.exceptions.PolarsError:
        return False


def plan_times(
    frame: pl.LazyFrame,
    column: str,
    dtype: pl.DataType,
    *,
    form: str | None,
    what: str,
    collect: Collect,
) -> TimePlan:
    """Finds out how the column is to be read.

    Args:
        frame: has the column; of written dates all rows are looked at, in one pass.
        column: its name.
        dtype: its type.
        form: `time_format`, see `check_form`.
        what: names file and column in errors and notes.
        collect: runs a query.

    Raises:
        DataError: the column holds no times, or they can be read in two ways.
    """
    value = pl.col(column)
    if form is not None and isinstance(dtype, pl.Date | pl.Datetime):
        raise DataError(f"{what} holds {dtype}, which needs no time_format={form}; leave it out")
    if isinstance(dtype, pl.Date):
        return TimePlan(value.cast(pl.Datetime("us")))
    if isinstance(dtype, pl.Datetime):
        return TimePlan(_utc(value) if dtype.time_zone else value)
    if isinstance(dtype, pl.Decimal):
        return TimePlan(value.cast(pl.Float64 if dtype.scale else pl.Int64, strict=False))
    if dtype.is_float():
        note = f"{what} holds {dtype}, which rounds times of our days to 128 seconds or more"
        return TimePlan(finite(value.cast(pl.Float64)), None if dtype == pl.Float64 else note)
    if dtype.is_integer() or isinstance(dtype, pl.Null):
        return TimePlan(value.cast(pl.Int64, strict=False))
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Binary):
        raise DataError(f"{what} holds {dtype} where times are expected; {_other()}")
    text = value.cast(pl.String, strict=False).str.strip_chars()
    return _plan_text(frame.select(text.alias("text")), text, form, what, collect)


def _plan_text(
    frame: pl.LazyFrame, text: pl.Expr, form: str | None, what: str, collect: Collect
) -> TimePlan:
    frame = frame.filter(pl.col("text") != "")
    # What a spreadsheet shows of a long number, 1.41742E+09, has lost hours.
    full = pl.when(~text.str.contains(_SHORTENED)).then(text)
    whole, fractions = (full.cast(kind, strict=False) for kind in (pl.Int64, pl.Float64))
    numbers = TimePlan(whole, fractions=TimePlan(finite(fractions)))
    if form in (*_UNITS, NUMBER):
        return numbers
    if form is not None and "%" in form:
        zoned = any(sign in form for sign in ("%z", "%:z", "%#z", "%+"))
        parsed = text.str.to_datetime(form, time_unit="us", strict=False)
        # %Y takes two digits for the first century.
        parsed = pl.when(parsed.dt.year() >= _FIRST_YEAR).then(parsed)
        return TimePlan(_utc(parsed) if zoned else parsed, f"{what}: times are read as {form}")
    sample = collect(frame.head(_SAMPLE))["text"]
    if sample.cast(pl.Float64, strict=False).null_count() * 2 < len(sample) or sample.is_empty():
        return numbers
    if form in READINGS:
        return TimePlan(instant(text, form), f"{what}: dates are read {form}")
    if sample.to_frame().select(is_date(pl.col("text")).sum()).item() * 2 <= len(sample):
        raise DataError(
            f"{what} holds {sample[0]!r}, which is not a time; seconds since 1970 are read, and "
            f"dates like 2014-01-31, 2014-01-31T12:00:00+01:00 or 31.01.2014 12:00; {_other()}"
        )
    reading, note = choose_reading(frame, what, collect)
    return TimePlan(instant(text, reading), note)


def _other() -> str:
    return (
        "say how they are written with time_format='%d %b %Y %H:%M', name another column with "
        "time_column=NAME, or say time_column=none"
    )


def _utc(value: pl.Expr) -> pl.Expr:
    return value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def settle(times: pl.Series, form: str | None, what: str) -> tuple[pl.Series, str | None]:
    """Numbers whose unit is not seconds become instants; all of them tell the unit.

    Args:
        times: `[T]` what `plan_times` gave, without null.
        form: `time_format`.
        what: names file and column.

    Returns:
        Times that can be ordered by, and what was decided about numbers.

    Raises:
        DataError: they are of two sizes, or day numbers of a spreadsheet.
    """
    if times.dtype.is_temporal() or times.is_empty():
        return times, None
    if form == NUMBER:
        return times, f"{what}: numbers are taken as they stand"
    if form in READINGS:
        raise DataError(f"{what} holds numbers ({times[0]}), not dates; leave time_format out")
    if form is None:
        form, note = _unit(times, what)
        if note is not None:
            return times, note
    if form in _UNITS:
        found = _instants(times, form)
        return found, f"{what}: numbers are read as {_NAMES[form]} since 1970, {_span(found)}"
    found = _dates(times, form)
    if found.null_count():
        wrong = int(times[int(found.is_null().arg_max() or 0)])
        raise DataError(f"{what} holds {wrong}, which is no {form}; give the right time_format")
    return found, f"{what}: numbers are read as {form} ({int(times[0])}), {_span(found)}"


def _dates(times: pl.Series, pattern: str) -> pl.Series:
    """`[T]` numbers like 20101201 as Datetime, null for those that are no dates."""
    blocks = (times.slice(start, _BLOCK) for start in range(0, len(times), _BLOCK))
    texts = (block.cast(pl.Int64).cast(pl.String) for block in blocks)
    return pl.concat([t.str.to_datetime(pattern, time_unit="us", strict=False) for t in texts])


def _unit(times: pl.Series, what: str) -> tuple[str, str | None]:
    """A unit or a pattern; with a note: the numbers stay as they are."""
    lo, hi = times.min(), times.max()
    assert isinstance(lo, int | float) and isinstance(hi, int | float)
    if (pattern := _as_dates(times, lo, hi)) is not None:
        return pattern, None
    if _SPREADSHEET[0] <= lo and hi <= _SPREADSHEET[1]:
        raise DataError(
            f"{what} holds numbers from {lo} to {hi}, which look like the day numbers of a "
            "spreadsheet; save dates as text like 2010-12-01 08:26, or say time_format=number to "
            "order by them as they stand"
        )
    units = {_unit_of(lo), _unit_of(hi)}
    if len(units) > 1:
        few, many = sorted(units, key=list(_UNITS).index)
        raise DataError(
            f"{what} holds {lo} and {hi}: {_NAMES[few]} and {_NAMES[many]} since 1970 in one "
            f"column? Bring them to one unit, or say it: time_format={few} or time_format={many}"
        )
    if hi < _COUNTED_BELOW and units == {"s"}:
        return "s", f"{what}: numbers from {lo} to {hi} are taken as they stand"
    return units.pop(), None


def _unit_of(number: float) -> str:
    limit = _SECONDS_BELOW
    for unit in ("s", "ms", "us"):
        if abs(number) < limit:
            return unit
        limit *= 1000
    return "ns"


def _as_dates(times: pl.Series, lo: float, hi: float) -> str | None:
    """The pattern by which all rows are dates, if there is one."""
    for pattern, first, last in _AS_DATES:
        whole = first <= lo and hi <= last and bool((times == times.cast(pl.Int64)).all())
        if whole and not _dates(times, pattern).null_count():
            return pattern
    return None


def _instants(times: pl.Series, unit: str) -> pl.Series:
    """Seconds stay numbers; the others become Datetime, to the fraction."""
    if unit == "s":
        return times
    if times.dtype.is_float():
        per_us = _UNITS[unit] / 10**6
        return (times / per_us).round().cast(pl.Int64).cast(pl.Datetime("us"))
    return times.cast(pl.Datetime(unit))  # type: ignore[arg-type]


def _span(times: pl.Series) -> str:
    """The first and the last day."""
    # Not as Python's dates, which end with the year 9999.
    seconds = whole_seconds(times)
    ends = pl.Series([seconds.min(), seconds.max()])
    shown = ends.clip(*_SHOWN).cast(pl.Int64) * 10**6
    return " to ".join(f"{day:%Y-%m-%d}" for day in shown.cast(pl.Datetime("us")))


def whole_seconds(times: pl.Series) -> pl.Series:
    """`[T]` Int64: dates as seconds since 1970; numbers keep their unit, without fractions."""
    if times.dtype.is_temporal():
        return times.dt.epoch("s").alias("timestamp")
    return (times.floor() if times.dtype.is_float() else times).cast(pl.Int64).alias("timestamp")
