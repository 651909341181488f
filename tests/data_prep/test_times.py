"""Times of any spelling: the same instants are the same data, or the refusal names the cause."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

from data_prep import PrepareOptions, prepare
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, DataError

INSTANTS = [
    datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    datetime(2010, 12, 13, 20, 5, tzinfo=UTC),
    datetime(2011, 1, 9, 0, 0, tzinfo=UTC),
    datetime(2011, 11, 2, 12, 59, tzinfo=UTC),
]
SECONDS = [int(instant.timestamp()) for instant in INSTANTS]
EAST = timezone(timedelta(hours=5, minutes=30))


def table(times, **columns):
    num = len(times)
    rows = {"user_id": [1] * num, "item_id": list(range(num)), "timestamp": times}
    return pl.DataFrame(rows | columns)


def prepared(folder, times, **options):
    """The data set of a file of these times, given backwards."""
    kind = "csv" if times and isinstance(times[0], str) else "parquet"
    frame, path = table(times).reverse(), folder / f"when.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    return prepare(kind, PrepareOptions(**options), source=path, out=folder / "out")


SPELLINGS = {
    "iso": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S"),
    "iso with a blank": lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    "iso without seconds": lambda t: t.strftime("%Y-%m-%d %H:%M"),
    "iso with fractions": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.250"),
    "iso with fractions after a comma": lambda t: t.strftime("%Y-%m-%d %H:%M:%S,25"),
    "iso in utc": lambda t: t.isoformat(),
    "iso with Z": lambda t: t.strftime("%Y-%m-%dT%H:%MZ"),
    "iso with UTC": lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "iso with an offset": lambda t: t.astimezone(EAST).isoformat(),
    "iso with an offset without colon": lambda t: t.astimezone(EAST).strftime("%Y-%m-%d %H:%M%z"),
    "year first with strokes": lambda t: t.strftime("%Y/%m/%d %H:%M"),
    "dots": lambda t: t.strftime("%d.%m.%Y %H:%M"),
    "dots with two digits": lambda t: t.strftime("%d.%m.%y %H:%M"),
    "day first": lambda t: t.strftime("%d/%m/%Y %H:%M"),
    "day first with dashes": lambda t: t.strftime("%d-%m-%Y %H:%M:%S"),
    "month first": lambda t: t.strftime("%m/%d/%Y %H:%M"),
    "month first as a spreadsheet": lambda t: f"{t.month}/{t.day}/{t:%y} {t.hour}:{t:%M}",
    "twelve hours": lambda t: t.strftime("%m/%d/%Y %I:%M:%S %p"),
    "digits": lambda t: t.strftime("%Y%m%d%H%M%S"),
    "seconds": lambda t: str(int(t.timestamp())),
    "seconds with fractions": lambda t: f"{t.timestamp() + 0.5}",
    "seconds as a power": lambda t: f"{t.timestamp():.10e}",
    "milliseconds": lambda t: str(int(t.timestamp()) * 10**3),
    "microseconds": lambda t: str(int(t.timestamp()) * 10**6),
    "nanoseconds": lambda t: str(int(t.timestamp()) * 10**9 + 7),
    "blanks around": lambda t: f" {int(t.timestamp())} ",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_instants_in_any_spelling_are_the_same_data(tmp_path, spelling):
    dataset = prepared(tmp_path, [SPELLINGS[spelling](instant) for instant in INSTANTS])
    assert dataset.timestamps.tolist() == SECONDS
    assert dataset.item_frame()["item_id"].to_list() == ["0", "1", "2", "3"]


TYPES = {
    "datetimes in ms": lambda s: s.cast(pl.Datetime("ms")),
    "datetimes in us": lambda s: s.cast(pl.Datetime("us")),
    "datetimes in ns": lambda s: s.cast(pl.Datetime("ns")),
    "datetimes with a zone": lambda s: s.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(
        "Asia/Kolkata"
    ),
    "integers in ms": lambda s: s.dt.epoch("ms"),
    "integers in ns": lambda s: s.dt.epoch("ns"),
    "floats in s": lambda s: s.dt.epoch("s").cast(pl.Float64),
    "floats in ms": lambda s: s.dt.epoch("ms").cast(pl.Float64),
    "decimals": lambda s: s.dt.epoch("s").cast(pl.Decimal(20, 3)),
    "unsigned": lambda s: s.dt.epoch("s").cast(pl.UInt32),
    "text": lambda s: s.dt.strftime("%Y-%m-%d %H:%M"),
    "categories": lambda s: s.dt.strftime("%Y-%m-%d %H:%M").cast(pl.Categorical),
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_instants_of_any_type_are_the_same_data_from_files_and_from_frames(tmp_path, kind):
    times = TYPES[kind](pl.Series([instant.replace(tzinfo=None) for instant in INSTANTS]))
    frame = table(times)
    plain = table(SECONDS).write_csv(tmp_path / "plain.csv")
    plain = prepare("csv", source=tmp_path / "plain.csv", out=tmp_path / "plain")
    frame.write_parquet(tmp_path / "when.parquet")
    read = prepare("parquet", source=tmp_path / "when.parquet", out=tmp_path / "read")
    written = write_dataset(tmp_path / "written", frame, name="when")
    for dataset in (read, written):
        assert dataset.timestamps.tolist() == SECONDS
        assert dataset.manifest.content_hash == plain.manifest.content_hash


def test_dates_of_parquet_are_midnights(tmp_path):
    dataset = prepared(tmp_path, [datetime(2011, 1, 9).date(), datetime(2011, 1, 10).date()])
    assert dataset.timestamps.tolist() == [SECONDS[2], SECONDS[2] + 86_400]


def test_one_day_after_the_twelfth_decides_for_all_rows_however_late_it_stands(tmp_path):
    early = [f"{day:02}/{month:02}/2011" for month in range(1, 13) for day in range(1, 13)] * 10
    day_first = prepared(tmp_path, ["28/02/2011", *early])
    assert np.ptp(day_first.timestamps) == 345 * 86_400
    assert any("day-first ('" in note for note in day_first.manifest.notes)
    month_first = prepared(tmp_path, ["02/28/2011", *early])
    assert any("month-first ('" in note for note in month_first.manifest.notes)
    assert day_first.manifest.content_hash != month_first.manifest.content_hash


def test_dates_that_can_be_read_in_two_ways_are_refused_with_both_shown(tmp_path):
    times = ["12/01/2010", "11/02/2010"]
    message = r"'11/02/2010', which is 2010-02-11 \(time_format=day-first\) or 2010-11-02 \(time"
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, times)
    for form, days in (("day-first", 30), ("month-first", 29)):
        dataset = prepared(tmp_path, times, time_format=form)
        assert abs(np.diff(dataset.timestamps))[0] == days * 86_400
    pattern = prepared(tmp_path, times, time_format="%m/%d/%Y")
    assert pattern.manifest.content_hash == dataset.manifest.content_hash


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["13/01/2010", "01/13/2010"], "which no order of day, month and year fits"),
        (["10-12-11"], "time_format=year-first"),
        (["2010-12-01 08:26Z", "2010-12-01 08:27"], "an offset from UTC, and .* without one"),
        (["2010-12-01", "2010-02-30", *["2010-01-01"] * 20], "holds '2010-02-30' where a time is"),
        (["2010-12-01 24:01", *["2010-01-01"] * 20], "holds '2010-12-01 24:01' where a time"),
        (["41609.35", "41610.01"], "day numbers of a spreadsheet"),
        (["1291191960", "1291191960000"], "seconds and milliseconds since 1970 in one column"),
        (["1 Dec 2010"], "time_format='%d %b %Y %H:%M'"),
    ],
)
def test_times_that_nobody_can_be_sure_of_are_refused(tmp_path, times, message):
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, times)


def test_no_error_advises_to_remove_most_of_the_rows(tmp_path):
    times = ["2010-12-01", "2010-12-02", "2010-12-03"] * 40 + ["1 Dec 2010"] * 60
    with pytest.raises(DataError) as raised:
        prepared(tmp_path, times)
    assert "60 such rows of 180" in str(raised.value)
    assert "remove" not in str(raised.value)
    assert "time_format=" in str(raised.value)


@pytest.mark.parametrize(
    ("times", "form", "seconds"),
    [
        (["1 Dec 2010", "2 Dec 2010"], "%d %b %Y", [1291161600, 1291248000]),
        (["41609", "41610"], "number", [41609, 41610]),
        (["5000", "90000000000000"], "ms", [5, 90_000_000_000]),
        (["20101201", "20101202"], None, [1291161600, 1291248000]),
        (["2010-12-01 08:26 +0100"], "%Y-%m-%d %H:%M %z", [SECONDS[0] - 3600]),
    ],
)
def test_time_format_says_what_the_rows_leave_open(tmp_path, times, form, seconds):
    assert prepared(tmp_path, times, time_format=form).timestamps.tolist() == seconds


@pytest.mark.parametrize("form", ["dayfirst", "%Q"])
def test_a_time_format_that_there_is_not_is_refused(tmp_path, form):
    with pytest.raises(ConfigError, match="time_format"):
        prepared(tmp_path, ["2010-12-01"], time_format=form)


def test_the_unit_that_was_read_stands_in_the_manifest_and_on_the_terminal(tmp_path, capsys):
    dataset = prepared(tmp_path, [str(second * 1000) for second in SECONDS])
    note = "when.csv: column 'timestamp': numbers are read as milliseconds since 1970, 2010-12-01"
    assert dataset.manifest.notes[-1].startswith(note)
    assert "milliseconds since 1970" in capsys.readouterr().err


def test_times_with_fractions_far_below_whole_ones_are_read(tmp_path):
    dataset = prepared(tmp_path, [str(row) for row in range(1, 1500)] + ["1500.5"])
    assert dataset.timestamps.tolist() == list(range(1, 1501))
