"""Raw files as people have them: names, packings, parts, lists, encodings, headers."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile
from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import PrepareOptions, prepare
from recsys.errors import DataError
from tests.data_prep.raw_tables.test_files import ids

CSV = "user_id,item_id,timestamp\n02,x,30\n1,y,10\n02,z,20\n"
OTHER = "user_id,item_id,timestamp\nwrong,w,1\n"
EXPECTED = {"02": ["z", "x"], "1": ["y"]}
FRAME = pl.DataFrame(
    {"user_id": ["02", "1", "02"], "item_id": ["x", "y", "z"], "timestamp": [30, 10, 20]}
)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, kind, source, **options):
    return ids(prepare(kind, PrepareOptions(**options), source=source, out=tmp_path / "out"))


def bodies(kind):
    if kind == "parquet":
        buffers = []
        for frame in (FRAME, FRAME.with_columns(user_id=pl.lit("wrong"))):
            frame.write_parquet(buffer := io.BytesIO())
            buffers.append(buffer.getvalue())
        return buffers
    if kind == "jsonl":
        lines = FRAME.write_ndjson()
        return lines.encode(), lines.replace("02", "wrong").encode()
    if kind == "s3rec":
        return b"02 z x\n1 y\n", b"wrong z\n"
    return CSV.encode(), OTHER.encode()


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "s3rec"])
@pytest.mark.parametrize(
    ("name", "neighbour"),
    [("r[1]", "r1"), ("r*", "rxx"), ("r?", "rx"), ("r[!a]", "rb"), ("~", "r")],
)
def test_a_file_name_is_no_pattern(tmp_path, kind, name, neighbour):
    right, wrong = bodies(kind)
    put(tmp_path / "in" / f"{neighbour}.{kind}", wrong)
    source = put(tmp_path / "in" / f"{name}.{kind}", right)
    assert read(tmp_path, kind, source) == EXPECTED


def test_an_item_file_name_is_no_pattern(tmp_path):
    source = put(tmp_path / "r.csv", CSV)
    for name, title in (("items1", "wrong"), ("items[1]", "right")):
        pl.DataFrame({"item_id": ["x"], "title": [title]}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    options = PrepareOptions(item_file=tmp_path / "items[1].parquet")
    dataset = prepare("csv", options, source=source, out=tmp_path / "out")
    assert dict(dataset.item_frame().select("item_id", "title").rows())["x"] == "right"


def test_a_pattern_that_names_no_file_matches_parts(tmp_path):
    put(tmp_path / "in" / "part-2.csv", "user_id,item_id,timestamp\n1,y,10\n")
    put(tmp_path / "in" / "part-10.csv", "timestamp,item_id,user_id\n20,z,02\n")
    put(tmp_path / "in" / "part-1.csv", "user_id,item_id,timestamp\n02,x,30\n")
    put(tmp_path / "in" / "notes.txt", "no part")
    pattern = tmp_path / "in" / "part-*.csv"
    assert read(tmp_path, "csv", pattern) == EXPECTED
    found = list(read(tmp_path, "csv", pattern, time_column="none"))
    assert found == ["02", "1"], "part-2 comes before part-10"


def test_two_files_of_one_name_do_not_meet_where_they_are_unpacked(tmp_path):
    source = put(tmp_path / "events" / "part-0.csv.gz", gzip.compress(CSV.encode()))
    items = put(tmp_path / "items" / "part-0.csv.gz", gzip.compress(b"item_id,title\nx,Ex\n"))
    options = PrepareOptions(item_file=items)
    dataset = prepare("csv", options, source=source, out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    titles = dict(dataset.item_frame().select("item_id", "title").rows())
    assert titles == {"x": "Ex", "y": None, "z": None}


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in members:
            archive.writestr(name, body)
    return buffer.getvalue()


PACKED = {
    "r.csv.gz": gzip.compress(CSV.encode()),
    "r.csv": gzip.compress(CSV.encode()),
    "two.csv.gz": gzip.compress(CSV[:40].encode()) + gzip.compress(CSV[40:].encode()),
    "r.csv.bz2": bz2.compress(CSV.encode()),
    "r.csv.xz": lzma.compress(CSV.encode()),
    "r.csv.zst": pa.compress(CSV.encode(), codec="zstd", asbytes=True),
    "r.csv.zip": zipped(("a/", b""), ("a/r.csv", CSV), ("__MACOSX/a/._r.csv", b"\0\5")),
    "gz in zip.zip": zipped(("r.csv.gz", gzip.compress(CSV.encode()))),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_files_are_told_by_their_first_bytes(tmp_path, name):
    assert read(tmp_path, "csv", put(tmp_path / name, PACKED[name])) == EXPECTED


@pytest.mark.parametrize("name", [n for n in PACKED if n.endswith((".bz2", ".xz", ".zst"))])
def test_a_cut_file_is_named_whatever_packed_it(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} is damaged"):
        read(tmp_path, "csv", put(tmp_path / name, PACKED[name][:-9]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped(("a.csv", CSV), ("b.csv", "item_id,title\nx,Ex\n")), "parts of one table have the"),
        (zipped(("[Content_Types].xml", "")), "is an Excel workbook"),
        (b"PK\x05\x06" + bytes(18), "is an empty zip file"),
        (bodies("parquet")[0], "cannot be read as csv: it is a parquet file"),
        (b"\x04\x22\x4d\x18abc", "packed by lz4"),
    ],
)
def test_what_is_no_table_of_this_kind_is_told(tmp_path, body, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "csv", put(tmp_path / "r.csv", body))


def spark_folder(folder):
    put(folder / "_SUCCESS", b"")
    put(folder / "._SUCCESS.crc", b"crc")
    put(folder / ".part-00000.snappy.parquet.crc", b"crc")
    put(folder / "part-00000.snappy.parquet", FRAME[:1])
    put(folder / "part-00001.snappy.parquet", FRAME[:0])
    columns = ["timestamp", "user_id", "item_id"]
    put(folder / "part-00002.snappy.parquet", FRAME[1:].select(columns))
    return folder


def test_a_folder_of_parquet_parts_is_one_table(tmp_path):
    dataset = prepare("parquet", source=spark_folder(tmp_path / "events"), out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    assert dataset.manifest.source == "events"


def test_hive_partitions_are_columns(tmp_path):
    put(tmp_path / "t" / "user_id=02" / "a.parquet", FRAME[[0, 2]].drop("user_id"))
    put(tmp_path / "t" / "user_id=a%2Fb" / "a.parquet", FRAME[[1]].drop("user_id"))
    assert read(tmp_path, "parquet", tmp_path / "t") == {"02": ["z", "x"], "a/b": ["y"]}
    pattern = tmp_path / "t" / "user_id=*" / "*.parquet"
    assert read(tmp_path, "parquet", pattern) == {"02": ["z", "x"], "a/b": ["y"]}


def test_parts_of_other_types_are_one_column(tmp_path):
    numbers = FRAME.with_columns(user_id=pl.Series([2, 1, 2]), item_id=pl.Series([7, 8, 9]))
    put(tmp_path / "t" / "0.parquet", numbers[:1].cast({"user_id": pl.Float64}))
    put(tmp_path / "t" / "1.parquet", numbers[1:2].cast({"item_id": pl.UInt64}))
    put(tmp_path / "t" / "2.parquet", numbers[2:].cast({"user_id": pl.String}))
    assert read(tmp_path, "parquet", tmp_path / "t") == {"2": ["9", "7"], "1": ["8"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.parquet", FRAME.rename({"timestamp": "when"}), "has no column 'timestamp'"),
        ("b.parquet", FRAME.with_columns(timestamp=pl.lit(date(2020, 1, 1))), "cannot be one"),
        ("_b.parquet", FRAME, "is hidden by the first character of its name"),
        ("_delta_log/0.json", "{}", "is a Delta table"),
        ("a.parquet.gz", gzip.compress(bodies("parquet")[0]), "seem to be the same file"),
        ("README.md", "read me", "README.md cannot be read as parquet: it is not a parquet file"),
    ],
)
def test_a_folder_whose_files_do_not_fit_is_refused(tmp_path, name, content, message):
    put(tmp_path / "t" / "a.parquet", FRAME)
    put(tmp_path / "t" / name, content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, "parquet", tmp_path / "t")


def test_a_link_to_a_file_beside_it_is_not_read_twice(tmp_path):
    put(tmp_path / "t" / "a.csv", CSV)
    (tmp_path / "t" / "latest.csv").symlink_to("a.csv")
    with pytest.raises(DataError, match=r"a\.csv and latest\.csv seem to be the same file"):
        read(tmp_path, "csv", tmp_path / "t")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_session_a_row_with_lists_of_items_and_times(tmp_path, kind):
    frame = pl.DataFrame(
        {
            "user_id": ["02", "1", "3"],
            "item_id": [["x", "z"], ["y"], []],
            "timestamp": [[30, 20], [10], []],
        },
        schema_overrides={"item_id": pl.List(pl.String), "timestamp": pl.List(pl.Int64)},
    )
    source = tmp_path / f"s.{kind}"
    frame.write_parquet(source) if kind == "parquet" else frame.write_ndjson(source)
    dataset = prepare(kind, source=source, out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    assert sorted(dataset.timestamps.tolist()) == [10, 20, 30]
    one_time = frame.with_columns(timestamp=pl.col("timestamp").list.first().fill_null(0))
    one_time.write_parquet(source) if kind == "parquet" else one_time.write_ndjson(source)
    assert read(tmp_path, kind, source) == {"02": ["x", "z"], "1": ["y"]}, "the order of the list"


@pytest.mark.parametrize(
    ("items", "times", "message"),
    [
        ([["x", "z"], ["y"]], [[1], [2]], "s.parquet row 0: the lists item_id, timestamp"),
        ([["x"], None], [[1], [2]], "s.parquet row 1: the lists item_id, timestamp are absent"),
        (["x", "y"], [[1], [2]], "holds lists, which go with a list of items"),
        ([[{"a": 1}], [{"a": 2}]], [[1], [2]], "lists of plain values are read"),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(tmp_path, items, times, message):
    frame = pl.DataFrame({"user_id": ["1", "2"], "item_id": items, "timestamp": times})
    with pytest.raises(DataError, match=message):
        read(tmp_path, "parquet", put(tmp_path / "s.parquet", frame))


def test_a_list_written_as_text_is_no_id(tmp_path):
    source = put(tmp_path / "r.csv", "user_id,item_id\n1,\"['a', 'b']\"\n")
    with pytest.raises(DataError, match="a list or an object as text"):
        read(tmp_path, "csv", source)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_id", pl.Series(["02", "1", "02"], dtype=pl.Categorical)),
        ("user_id", pl.Series(["02", "1", "02"], dtype=pl.Enum(["1", "02"]))),
        ("item_id", pl.Series([b"x", b"y", b"z"])),
        ("rating", pl.Series(["5", "3", "1"], dtype=pl.Categorical)),
        ("rating", pl.Series([Decimal("5.0"), Decimal("3.0"), Decimal("1.0")])),
        ("timestamp", pl.Series([Decimal(30), Decimal(10), Decimal(20)])),
        ("timestamp", (pl.Series([30, 10, 20]) * 10**9).cast(pl.Datetime("ns"))),
        ("timestamp", pl.Series(["30", "10", "20"], dtype=pl.Categorical)),
        ("timestamp", pl.Series([datetime.fromtimestamp(t) for t in (30, 10, 20)])),
    ],
)
def test_parquet_columns_of_any_type_are_read_by_their_values(tmp_path, column, values):
    frame = FRAME.with_columns(rating=pl.Series([5, 3, 1])).with_columns(values.alias(column))
    source = put(tmp_path / "r.parquet", frame)
    dataset = prepare("parquet", source=source, out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    rows = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    items = dataset.item_frame()["item_id"].gather(rows["item_index"])
    assert dict(zip(items, rows["weight"], strict=True)) == {"x": 5, "y": 3, "z": 1}


def test_byte_strings_that_are_no_text_are_refused(tmp_path):
    frame = FRAME.with_columns(user_id=pl.Series([b"\xff\xfe", b"1", b"2"]))
    with pytest.raises(DataError, match="invalid utf8"):
        read(tmp_path, "parquet", put(tmp_path / "r.parquet", frame))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_lines_may_begin_with_a_mark_and_end_with_blank_lines(tmp_path, mark, end):
    lines = FRAME.write_ndjson().replace("\n", end)
    assert (
        read(tmp_path, "jsonl", put(tmp_path / "r.jsonl", f"{mark}{lines}{end}{end}")) == EXPECTED
    )


def test_a_field_that_first_appears_far_below_is_read(tmp_path):
    plain = "".join(f'{{"user_id":"1","item_id":"{n}"}}\n' for n in range(1500))
    source = put(tmp_path / "r.jsonl", plain + '{"user_id":"2","item_id":"a","timestamp":5}\n')
    with pytest.raises(DataError, match=r"line 1: column 'timestamp' has no value"):
        read(tmp_path, "jsonl", source)
    assert len(read(tmp_path, "jsonl", source, time_column="none")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([{"user_id": 1, "item_id": 2}]), "each line must be one"),
        (json.dumps([{"user_id": 1}], indent=1), "not an array of them"),
        ('{"user_id":1,"item_id":2,"user_id":3}\n', "the field 'user_id' occurs twice"),
        ('{"user_id":1,"item_id":2,"x":NaN}\n', "line 1 is not JSON .NaN is not a number in JSON"),
        ('{"user_id":1.2345678901234568e+18,"item_id":2}\n', "has lost digits of the id"),
        ('{"user_id":{"id":5},"item_id":2}\n', "a list or an object as text"),
    ],
)
def test_json_that_is_no_lines_of_objects_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "jsonl", put(tmp_path / "r.jsonl", text))


@pytest.mark.parametrize("end", ["\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_lines_may_end_as_on_windows_and_old_macs(tmp_path, end, last):
    text = (CSV.strip() + last).replace("\n", end)
    assert read(tmp_path, "csv", put(tmp_path / "r.csv", text)) == EXPECTED


def test_blank_lines_between_rows_are_no_rows(tmp_path):
    source = put(tmp_path / "r.csv", CSV.replace("\n", "\n\n"))
    assert read(tmp_path, "csv", source) == EXPECTED
    bad = put(tmp_path / "b.csv", CSV.replace("\n", "\n\n") + "1,,5\n")
    with pytest.raises(DataError, match=r"b\.csv line 9: column 'item_id' has no value"):
        read(tmp_path, "csv", bad)


def test_a_column_that_is_there_twice_is_refused_only_where_it_is_meant(tmp_path):
    source = put(tmp_path / "r.csv", "user_id,item_id,note,note\n1,a,x,y\n")
    assert read(tmp_path, "csv", source) == {"1": ["a"]}
    table = pa.Table.from_arrays([pa.array([1])] * 3, names=["user_id", "item_id", "item_id"])
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r\.parquet has the column 'item_id' twice"):
        read(tmp_path, "parquet", tmp_path / "r.parquet")


def test_stdin_and_pipes_are_read(tmp_path):
    command = "from recsys.cli import app; app()"
    arguments = [sys.executable, "-c", command, "prepare", "csv", "--source", "-"]
    arguments += ["--out", str(tmp_path / "out")]
    packed = gzip.compress(CSV.encode())
    done = subprocess.run(arguments, input=packed, capture_output=True, check=False)
    assert b"2 users, 3 items, 3 interactions" in done.stdout, done.stderr.decode()
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(CSV.encode())
    assert read(tmp_path, "csv", f"/dev/fd/{reading}") == EXPECTED
    os.close(reading)


# Encodings


TITLES = "item_id;title\nx;Café “Ex”\ny;Zürich\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "utf-16-le", "cp1250"])
def test_item_files_are_read_as_the_interactions_are(tmp_path, encoding):
    source = put(tmp_path / "r.csv.gz", gzip.compress(CSV.replace(",", ";").encode(encoding)))
    items = put(tmp_path / "i.csv.bz2", bz2.compress(TITLES.encode(encoding)))
    options = PrepareOptions(delimiter=";", encoding=encoding, item_file=items)
    dataset = prepare("csv", options, source=source, out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    titles = dict(dataset.item_frame().select("item_id", "title").rows())
    assert titles == {"x": "Café “Ex”", "y": "Zürich", "z": None}


def test_item_files_may_be_written_otherwise_than_the_interactions(tmp_path):
    items = put(tmp_path / "items.dat", "1::Caf\xe9::Drama\nx::Ex::\n".encode("latin-1"))
    options = PrepareOptions(
        item_file=items,
        item_file_delimiter="::",
        item_file_encoding="latin-1",
        item_file_header="none",
        item_file_id_column="1",
        title_column="2",
    )
    source = put(tmp_path / "r.csv", CSV)
    dataset = prepare("csv", options, source=source, out=tmp_path / "out")
    assert dict(dataset.item_frame().select("item_id", "title").rows())["x"] == "Ex"
    assert dataset.item_frame().columns == ["item_index", "item_id", "title", "3"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1252", "Müller “x”"), ("gbk", "小说月报第一"), ("shift_jis", "カフェ")],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings_that_would_read_the_bytes_are_named(tmp_path, kind, encoding, text):
    line = {"csv": f"1,{text}\n", "jsonl": f'{{"user_id":"1","item_id":"{text}"}}\n'}[kind]
    head = {"csv": "user_id,item_id\n", "jsonl": ""}[kind]
    source = put(tmp_path / f"r.{kind}", (head + line).encode(encoding))
    with pytest.raises(DataError) as error:
        read(tmp_path, kind, source)
    assert f"encoding={encoding} reads " in str(error.value)
    assert text in str(error.value)
    assert read(tmp_path, kind, source, encoding=encoding) == {"1": [text]}


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        ("user_id,item_id\n1,café\n".encode(), "latin-1", "is UTF-8, which encoding=.* garble"),
        ("user_id,item_id\n1,“x”\n".encode("cp1252"), "latin-1", "line 2 .* encoding=cp1252"),
        ("user_id,item_id\n1,x\n1,\xe9\n".encode("latin-1"), "gbk", r"r\.csv line 3 is not gbk"),
        ("user_id,item_id\n1,x\n".encode("utf-16-le"), "utf-8", "NUL bytes.* encoding=utf-16-le"),
        (b"user_id,item_id\n1,x\n2,y\0\0\n", "utf-8", "line 3 holds NUL bytes"),
    ],
)
def test_text_is_not_read_in_an_encoding_that_it_is_not_in(tmp_path, body, encoding, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "csv", put(tmp_path / "r.csv", body), encoding=encoding)


def test_an_unknown_encoding_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="no encoding is called 'cp1262'; did you mean 'cp1252'"):
        PrepareOptions(encoding="cp1262")


# Headers and rows

UDATA = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t51\t1\t881250950\n"


def test_a_file_without_a_header_is_read_by_numbers_of_columns(tmp_path):
    options = {"user_column": 1, "item_column": "2", "weight_column": "3", "time_column": "4"}
    source = put(tmp_path / "u.data", UDATA)
    found = read(tmp_path, "tsv", source, header="none", **options)
    assert found == {"196": ["242", "51"], "186": ["302"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"user_column": "196", "item_column": "242"},
            "looks like data.*header=none.*user_column=1",
        ),
        ({}, "If this first line is data, say header=none and user_column=NUMBER"),
        ({"header": "none"}, "without a header columns are numbers from 1 to 4, here of '196'"),
        ({"header": "none", "user_column": "0", "item_column": "1"}, "no column '0'"),
    ],
)
def test_the_first_row_of_a_file_without_a_header_is_not_lost(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "tsv", put(tmp_path / "u.data", UDATA), **options)


def test_numbers_may_be_names_where_the_header_is_said_to_be_one(tmp_path):
    source = put(tmp_path / "r.csv", "0,1\na,x\n")
    options = {"user_column": "0", "item_column": "1", "header": "first"}
    assert read(tmp_path, "csv", source, **options) == {"a": ["x"]}


def test_a_header_is_no_row(tmp_path):
    source = put(tmp_path / "r.csv", "userId,movieId\n1,2\n")
    with pytest.raises(DataError, match=r"header=none, but the first line .* looks like names"):
        read(tmp_path, "csv", source, header="none", user_column="1", item_column="2")


def test_a_header_in_the_middle_is_named(tmp_path):
    text = "user_id,item_id\n1,a\n"
    with pytest.raises(DataError, match=r"r\.csv line 3: .* a header that is repeated"):
        read(tmp_path, "csv", put(tmp_path / "r.csv", text + text))


def test_a_first_row_of_words_that_is_read_as_names_is_noticed(tmp_path):
    source = put(tmp_path / "r.csv", "anna,x\nanna,y\nbert,x\n")
    with pytest.raises(DataError, match="a first line that is data"):
        read(tmp_path, "csv", source, user_column="anna", item_column="x")


def test_an_empty_rating_column_names_the_way_out(tmp_path):
    source = put(tmp_path / "r.csv", "user_id,item_id,rating\n1,a,\n1,b,\n")
    with pytest.raises(DataError, match=r"column .rating. has no value .*weight_column=none"):
        read(tmp_path, "csv", source)
    assert read(tmp_path, "csv", source, weight_column="none") == {"1": ["a", "b"]}


def test_usual_names_are_found_whatever_their_case(tmp_path):
    source = put(
        tmp_path / "r.csv", "user_id, item_id,Timestamp , Rating\n1,late,9,2\n1,early,3,2\n"
    )
    dataset = prepare("csv", PrepareOptions(min_rating=1), source=source, out=tmp_path / "out")
    assert ids(dataset) == {"1": ["early", "late"]}
    assert dataset.manifest.filters == ("weight >= 1",)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", "user_id,item_id,x,y\n1,a,2,3\nb,4,5\n", "line 3 has 3 fields .*, 4 are expected"),
        ("csv", 'user_id,item_id,x\n1,"a,\nb",2\n3,c\n', "line 4 has 2 fields .*, 3 are expected"),
        ("csv", 'user_id,item_id\n1,"a\n2,b\n', "line 2: a quote is not closed"),
        ("csv", 'user_id,item_id\n1,5" disc\n2,b\n', "quotes inside fields.*say quote=none"),
        ("csv", 'user_id,item_id\n1,"the \\"x\\" y"\n', "quotes behind backslashes"),
        ("tsv", 'user_id\titem_id\n1\t"a"\n', "with quotes around it; say quote="),
        ("csv", "user_id,item_id\n1,a\n1,NULL\n", r"line 3: .*'NULL'.*literal_nulls=true"),
        ("csv", "user_id,item_id\n1,a\n\\N,b\n", "often stands for no value"),
        ("csv", "user_id,item_id\n1.23457E+12,a\n", "lost digits"),
        ("csv", "user_id,item_id\n1,caf\ufffd\n", "characters were lost"),
        ("csv", "user_id,item_id\n1,a\tb\n", "holds a control character"),
        ("csv", "user_id;item_id\n1;a\n", "say delimiter=';'"),
        ("csv", "*,item_id\n1,a\n", "take for a pattern"),
        ("csv", "sep=;\nuser_id;item_id\n1;a\n", "comment=sep= to leave out the first line"),
    ],
)
def test_rows_that_would_be_read_wrong_are_refused_by_their_cause(tmp_path, kind, text, message):
    options = {"user_column": "*"} if text.startswith("*") else {}
    with pytest.raises(DataError, match=message):
        read(tmp_path, kind, put(tmp_path / f"r.{kind}", text), **options)


def test_what_looks_wrong_is_read_where_the_user_says_so(tmp_path):
    text = 'user_id\titem_id\tx\n1\t"a"\t\nNone\tb\t2\n'
    source = put(tmp_path / "r.tsv", text)
    found = read(tmp_path, "tsv", source, quote="none", literal_nulls=True)
    assert found == {"1": ['"a"'], "None": ["b"]}
    found = read(tmp_path, "tsv", source, quote='"', literal_nulls=True)
    assert found == {"1": ["a"], "None": ["b"]}


def test_a_quoted_header_of_a_tab_separated_file_means_quotes(tmp_path):
    source = put(
        tmp_path / "r.tsv", '"user_id"\t"item_id"\n"1"\t"a\tb ""c"""\n'.replace("\tb", " b")
    )
    assert read(tmp_path, "tsv", source) == {"1": ['a b "c"']}


def test_comment_lines_are_left_out(tmp_path):
    source = put(tmp_path / "r.csv", "# made by x, y\n" + CSV)
    assert read(tmp_path, "csv", source, comment="#") == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_under_their_usual_names_are_found_in_capital_letters(tmp_path, kind):
    write = {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}[kind]
    rows = FRAME.rename(str.upper)
    items = pl.DataFrame({"ITEM_ID": ["x", "y", "z"], "TITLE": ["X", "Y", "Z"]})
    paths = [tmp_path / f"{name}.{kind}" for name in ("rows", "items")]
    for frame, path in zip((rows, items), paths, strict=True):
        getattr(frame, write)(path)
    options = PrepareOptions(item_file=paths[1])
    dataset = prepare(kind, options, source=paths[0], out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    assert sorted(dataset.item_frame()["TITLE"]) == ["X", "Y", "Z"]


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e39"])
@pytest.mark.parametrize("column", ["rating", "timestamp", "position"])
def test_a_number_that_is_infinite_is_refused_with_its_row(tmp_path, column, value):
    number = "1e999" if value == "1e39" and column != "rating" else value  # of 64 bits
    rows = f"user_id,item_id,{column}\nu,x,1\nu,y,{number}\nu,z,3\n"
    order = "position" if column == "position" else None
    with pytest.raises(DataError, match=rf"line 3: column '{column}' holds '{number}'"):
        read(tmp_path, "csv", put(tmp_path / "rows.csv", rows), order_column=order)
