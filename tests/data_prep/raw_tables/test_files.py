"""csv, tsv, parquet, jsonl, RecBole and sequence files, each written by the test."""

import gzip

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import PrepareOptions, prepare
from recsys.errors import DataError

ROWS = [("02", "x", 5, 30.0), ("1", "y", 3, 10.0), ("02", "y", 4, 30.0), ("02", "z", 1, 20.0)]
NAMES = ("user_id", "item_id", "rating", "timestamp")


def delimited(separator):
    lines = [NAMES, *((user, item, rating, int(time)) for user, item, rating, time in ROWS)]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def write(kind, folder):
    path = folder / f"rows.{kind}"
    frame = pl.DataFrame(ROWS, schema=list(NAMES), orient="row")
    if kind == "parquet":
        frame.with_columns(pl.col("timestamp").cast(pl.Int64)).write_parquet(path)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        path.write_text(delimited({"csv": ",", "tsv": "\t"}[kind]))
    return path


def write_text(folder, text, name="rows.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def ids(dataset):
    """Histories in external ids: {user: [item, ...]}, users by index."""
    items = dataset.item_frame()["item_id"].to_list()
    cuts = dataset.offsets.tolist()
    return {
        user: [items[index] for index in dataset.items[cuts[row] : cuts[row + 1]].tolist()]
        for row, user in enumerate(dataset.user_frame()["user_id"].to_list())
    }


EXPECTED = {"02": ["z", "x", "y"], "1": ["y"]}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_file_gives_the_same_dataset(tmp_path, kind):
    dataset = prepare(kind, source=write(kind, tmp_path), out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    assert dataset.timestamps.tolist() == [10, 20, 30, 30]
    weights = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["weight"]
    assert weights.to_list() == [3.0, 1.0, 5.0, 4.0]
    csv = prepare("csv", source=write("csv", tmp_path), out=tmp_path / "csv")
    assert dataset.manifest.content_hash == csv.manifest.content_hash
    assert dataset.manifest.source == f"rows.{kind}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_text_files_may_be_gzipped(tmp_path, kind):
    path = write(kind, tmp_path)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert ids(prepare(kind, source=packed, out=tmp_path / "out")) == EXPECTED


def test_columns_and_the_delimiter_are_named_by_options(tmp_path):
    path = write_text(tmp_path, "when;who;what;stars\n9;a;p;2\n8;a;q;5\n")
    options = PrepareOptions(
        user_column="who",
        item_column="what",
        time_column="when",
        weight_column="stars",
        delimiter=";",
        min_rating=2,
        dataset_name="stars",
        licence="mine",
    )
    dataset = prepare("csv", options, source=path, out=tmp_path / "out")
    assert ids(dataset) == {"a": ["q", "p"]}
    assert (dataset.manifest.name, dataset.manifest.licence) == ("stars", "mine")
    assert dataset.manifest.filters == ("weight >= 2",)


@pytest.mark.parametrize("fraction", ["", ".0"])
def test_an_order_column_rules_instead_of_time(tmp_path, fraction):
    rows = f"1,a,1,10{fraction}\n1,b,2,0{fraction}\n1,c,3,9{fraction}\n"
    text = "user_id,item_id,timestamp,position\n" + rows
    options = PrepareOptions(order_column="position")
    dataset = prepare("csv", options, source=write_text(tmp_path, text), out=tmp_path / "out")
    assert ids(dataset) == {"1": ["b", "c", "a"]}
    assert dataset.timestamps.tolist() == [2, 3, 1]
    assert "column position" in dataset.manifest.tie_rule


def test_without_times_the_order_of_the_file_stands(tmp_path):
    text = "user_id,item_id,timestamp\n1,c,9\n2,a,1\n1,a,3\n"
    options = PrepareOptions(time_column="none")
    dataset = prepare("csv", options, source=write_text(tmp_path, text), out=tmp_path / "out")
    assert ids(dataset) == {"1": ["c", "a"], "2": ["a"]}
    assert dataset.timestamps is None
    assert dataset.manifest.tie_rule == "given order of the source file (no times)"


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)), min_size=1)


@settings(max_examples=30, deadline=None)
@given(rows)
def test_equal_times_keep_the_given_order(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("ties")
    text = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    dataset = prepare("csv", source=write_text(folder, text), out=folder / "out")
    expected = {
        str(user): [str(item) for u, item, _ in sorted(rows, key=lambda row: row[2]) if u == user]
        for user in dict.fromkeys(user for user, _, _ in rows)
    }
    found = ids(dataset)
    assert found == expected
    assert list(found) == sorted(found), "users are numbered by their ids"


@pytest.mark.parametrize("seed", range(3))
def test_rows_with_times_may_stand_in_any_order(tmp_path, seed):
    numbers = np.arange(80)
    columns = {"user_id": numbers % 7, "item_id": numbers**2 % 11, "timestamp": 500 - numbers}
    rows = pl.DataFrame(columns)
    rows.write_csv(tmp_path / "rows.csv")
    rows.sample(fraction=1.0, shuffle=True, seed=seed).write_csv(tmp_path / "shuffled.csv")
    one = prepare("csv", source=tmp_path / "rows.csv", out=tmp_path / "one")
    two = prepare("csv", source=tmp_path / "shuffled.csv", out=tmp_path / "two")
    assert one.manifest.content_hash == two.manifest.content_hash


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2014-01-02", "2014-01-01"], [1388534400, 1388620800]),
        (["2014-01-01T00:00:01.700", "2014-01-01T00:00:01.200"], [1388534401, 1388534401]),
        (["2014-01-01 00:00:09", "2014-01-01 00:00:08"], [1388534408, 1388534409]),
        (["1.75", "1.25"], [1, 1]),
        (["8.5e1", "7"], [7, 85]),
    ],
)
def test_dates_and_fractions_order_histories_before_they_become_seconds(tmp_path, times, expected):
    text = f"user_id,item_id,timestamp\n1,late,{times[0]}\n1,early,{times[1]}\n"
    dataset = prepare("csv", source=write_text(tmp_path, text), out=tmp_path / "out")
    assert ids(dataset) == {"1": ["early", "late"]}
    assert dataset.timestamps.tolist() == expected


def test_dates_and_whole_floats_of_parquet_are_read(tmp_path):
    from datetime import datetime

    frame = pl.DataFrame(
        {
            "user_id": [1.0, 1.0],
            "item_id": [7, 8],
            "timestamp": [datetime(2014, 1, 2), datetime(2014, 1, 1)],
        }
    )
    frame.write_parquet(tmp_path / "f.parquet")
    dataset = prepare("parquet", source=tmp_path / "f.parquet", out=tmp_path / "out")
    assert ids(dataset) == {"1": ["8", "7"]}
    assert dataset.timestamps.tolist() == [1388534400, 1388620800]


def test_fields_may_hold_the_delimiter_in_quotes_and_latin_1(tmp_path):
    text = 'user_id,item_id\n1,"a,é"\n2,"b ""x"""\n'.encode("latin-1")
    options = PrepareOptions(encoding="latin-1")
    dataset = prepare("csv", options, source=write_text(tmp_path, text), out=tmp_path / "out")
    assert ids(dataset) == {"1": ["a,é"], "2": ['b "x"']}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_item_files_give_content(tmp_path, kind):
    items = pl.DataFrame({"sku": ["x", "z"], "label": ["Ex", "Zed"], "brand": ["p", "q"]})
    path = tmp_path / f"items.{kind}"
    {
        "csv": items.write_csv,
        "tsv": lambda file: items.write_csv(file, separator="\t"),
        "parquet": items.write_parquet,
        "jsonl": items.write_ndjson,
    }[kind](path)
    options = PrepareOptions(item_file=path, item_file_id_column="sku", title_column="label")
    dataset = prepare("csv", options, source=write("csv", tmp_path), out=tmp_path / "out")
    frame = dataset.item_frame()
    assert frame.columns == ["item_index", "item_id", "title", "brand"]
    content = dict(zip(frame["item_id"], frame["title"], strict=True))
    assert content == {"x": "Ex", "y": None, "z": "Zed"}


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", "user,item\n1,2\n", "rows.csv has no column 'user_id'; it has 'user', 'item'"),
        ("csv", "", "rows.csv is empty"),
        ("csv", "user_id,item_id\n", "rows.csv holds no interactions"),
        ("csv", "user_id,item_id\n1,2\n,3\n", "rows.csv line 3: column 'user_id' has no value"),
        ("csv", "user_id,item_id\n1,2\n1,NaN\n", "rows.csv line 3: column 'item_id' holds 'NaN'"),
        ("csv", "user_id,item_id\n1,2\n1\n", "rows.csv line 3 has 1 fields"),
        ("csv", "user_id,item_id\n1,2\n1,2,3\n", "rows.csv line 3 has 3 fields"),
        ("csv", b"user_id,item_id\n1,2\n1,\xe9\n", "rows.csv line 3 is not UTF-8"),
        (
            "csv",
            "user_id,item_id,timestamp\n1,2,3\n1,2,4\n1,2,x\n",
            "rows.csv line 4: column 'timestamp' holds 'x' where a time is expected",
        ),
        ("csv", "user_id,item_id,timestamp\n1,2,noon\n", "holds 'noon', which is not a time"),
        (
            "csv",
            "user_id,item_id,rating\n1,2,3\n1,2,good\n",
            "rows.csv line 3: column 'rating' holds 'good' where a number is expected",
        ),
        ("tsv", "user_id\titem_id\n1\t2\n1\t2\t3\n", "rows.tsv line 3 has 3 fields"),
        ("jsonl", '{"user_id":1,"item_id":2}\n{"user_id":1,\n', "rows.jsonl line 2 is not JSON"),
        ("jsonl", '{"user_id":1,"item_id":2}\n[1]\n', "rows.jsonl line 2 is not a JSON object"),
        (
            "jsonl",
            '{"user_id":1,"item_id":2}\n{"user_id":1}\n',
            "rows.jsonl line 2: column 'item_id' has no value",
        ),
        ("parquet", "no parquet at all", "rows.parquet cannot be read"),
        ("recbole", "user_id:token\titem_id\n1\t2\n", "field 'item_id' is not of the form name"),
        ("s3rec", "1 2 3\n4\n", r"line 2 \(a user without items\)"),
        ("s3rec", "", "rows.txt"),
    ],
)
def test_bad_input_names_file_and_row_and_leaves_nothing_behind(tmp_path, kind, text, message):
    suffix = {"s3rec": "txt", "recbole": "inter"}.get(kind, kind)
    source = write_text(tmp_path, text, f"rows.{suffix}")
    with pytest.raises(DataError, match=message):
        prepare(kind, source=source, out=tmp_path / "data" / "out")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("late", [1_500, 300_000])
def test_a_malformed_row_far_below_is_named_too(tmp_path, late):
    good = "".join(f"{row},{row % 7},{row}\n" for row in range(late))
    text = "user_id,item_id,timestamp\n" + good + "1,2,later\n"
    with pytest.raises(DataError, match=f"rows.csv line {late + 2}: .*'later'"):
        prepare("csv", source=write_text(tmp_path, text), out=tmp_path / "out")


def test_a_late_malformed_json_line_is_named(tmp_path):
    good = "".join(f'{{"user_id":{row},"item_id":1}}\n' for row in range(3000))
    path = write_text(tmp_path, good + '{"user_id":1 "item_id":2}\n', "rows.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl line 3001 is not JSON"):
        prepare("jsonl", source=path, out=tmp_path / "out")


@pytest.mark.parametrize("value", [None, float("nan"), 1.5])
def test_ids_of_parquet_that_are_none_are_named(tmp_path, value):
    frame = pl.DataFrame({"user_id": [1.0, 2.0, value], "item_id": [1, 2, 3]})
    frame.write_parquet(tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"f\.parquet row 2: column 'user_id'"):
        prepare("parquet", source=tmp_path / "f.parquet", out=tmp_path / "out")


def test_a_cut_gzip_is_named(tmp_path):
    packed = gzip.compress(delimited(",").encode() * 50)
    with pytest.raises(DataError, match=r"rows\.csv\.gz is damaged"):
        prepare(
            "csv", source=write_text(tmp_path, packed[:-9], "rows.csv.gz"), out=tmp_path / "out"
        )


def test_an_item_file_without_its_columns_is_refused(tmp_path):
    items = write_text(tmp_path, "item_id,name\n1,a\n", "items.csv")
    options = PrepareOptions(item_file=items, title_column="title")
    with pytest.raises(DataError, match=r"items\.csv has no column 'title'; it has 'item_id'"):
        prepare("csv", options, source=write("csv", tmp_path), out=tmp_path / "out")
    options = PrepareOptions(item_file=tmp_path / "items.xls")
    with pytest.raises(DataError, match=r"items\.xls is none of \.csv"):
        prepare("csv", options, source=write("csv", tmp_path), out=tmp_path / "out")


def test_atomic_files_lose_their_types_and_give_content(tmp_path):
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    inter += "02\tx\t5\t30\n1\ty\t3\t10\n02\ty\t4\t30\n02\tz\t1\t20\n"
    write_text(tmp_path, inter, "shop.inter")
    write_text(tmp_path, 'item_id:token\tname:token_seq\nx\tThe "X"\nz\tA Z\n', "shop.item")
    dataset = prepare("recbole", source=tmp_path, out=tmp_path / "out")
    assert ids(dataset) == EXPECTED
    frame = dataset.item_frame()
    names = dict(zip(frame["item_id"], frame["name"], strict=True))
    assert names == {"x": 'The "X"', "y": None, "z": "A Z"}
    csv = prepare("csv", source=write("csv", tmp_path), out=tmp_path / "csv")
    assert dataset.manifest.content_hash == csv.manifest.content_hash


def test_one_inter_file_is_expected(tmp_path):
    with pytest.raises(DataError, match="found none"):
        prepare("recbole", source=tmp_path, out=tmp_path / "out")
    for name in ("a.inter", "b.inter"):
        write_text(tmp_path, "user_id:token\titem_id:token\n1\t2\n", name)
    with pytest.raises(DataError, match=r"several .inter files \(a\.inter, b\.inter\)"):
        prepare("recbole", source=tmp_path, out=tmp_path / "out")
    dataset = prepare("recbole", source=tmp_path / "b.inter", out=tmp_path / "out")
    assert ids(dataset) == {"1": ["2"]}


def test_sequences_are_histories_in_the_given_order(tmp_path):
    path = write_text(tmp_path, '7 c a b\n\n3  a "q\tc\n', "seq.txt")
    dataset = prepare("s3rec", source=path, out=tmp_path / "out")
    assert ids(dataset) == {"7": ["c", "a", "b"], "3": ["a", '"q', "c"]}


def test_the_beauty_sequences_have_their_published_sizes(tmp_path, real_data):
    folder = real_data("amazon-beauty-2014")
    dataset = prepare("s3rec", source=folder / "Beauty.txt", out=tmp_path / "sequences")
    manifest = dataset.manifest
    found = (manifest.num_users, manifest.num_items, manifest.num_interactions)
    assert found == (22_363, 12_101, 198_502)
    options = PrepareOptions(order_column="position", item_file=folder / "items.csv")
    table = prepare("csv", options, source=folder / "interactions.csv.gz", out=tmp_path / "table")
    assert (table.items == dataset.items).all()
    assert table.item_frame()["title"].null_count() < 500


def test_the_five_core_of_movietweetings_has_its_known_size(tmp_path, real_data):
    source = real_data("movietweetings-100k") / "interactions.csv.gz"
    options = PrepareOptions(min_user_count=5, min_item_count=5)
    manifest = prepare("csv", options, source=source, out=tmp_path / "out").manifest
    found = (manifest.num_users, manifest.num_items, manifest.num_interactions)
    assert found == (4_333, 2_414, 68_055)
    assert manifest.filters[0].startswith("k-core: every user >= 5")


def test_ml_1m_in_its_known_order_is_read_by_position(tmp_path, real_data):
    source = real_data("ml-1m") / "ratings_ordered.csv.gz"
    options = PrepareOptions(item_column="movie_id", order_column="position")
    manifest = prepare("csv", options, source=source, out=tmp_path / "out").manifest
    found = (manifest.num_users, manifest.num_items, manifest.num_interactions)
    assert found == (6_040, 3_706, 1_000_209)
