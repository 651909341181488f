"""Small files written as the three public generations write theirs (samples of their own pages)."""

import gzip
import json

import polars as pl
import pytest

from data_prep import PrepareOptions, prepare
from data_prep.readers.amazon_items import as_row, parse_line, read_metadata
from recsys.errors import ConfigError, DataError

REVIEW_2014 = (
    '{"reviewerID": "%s", "asin": "%s", "reviewerName": "J. \\"M\\"", "helpful": [2, 3], '
    '"reviewText": "I bought { this", "overall": %s, "summary": "Heavenly", '
    '"unixReviewTime": %d, "reviewTime": "09 13, 2009"}'
)
REVIEW_2018 = (
    '{"overall": %s, "vote": "5", "verified": true, "reviewTime": "06 9, 2014", '
    '"reviewerID": "%s", "asin": "%s", "style": {"Format:": " Hardcover"}, '
    '"reviewText": "x", "unixReviewTime": %d, "image": ["https://a/b.jpg"]}'
)
REVIEW_2023 = (
    '{"rating": %s, "title": "Such a lovely scent", "text": "x", "images": [], "asin": "V%s", '
    '"parent_asin": "%s", "user_id": "%s", "timestamp": %d, "helpful_vote": 0, '
    '"verified_purchase": true}'
)
ROWS = [("u2", "b", 5.0, 30), ("u1", "a", 4.0, 20), ("u2", "a", 1.0, 10), ("u1", "b", 2.0, 20)]
HISTORIES = {"u2": [("a", 10), ("b", 30)], "u1": [("a", 20), ("b", 20)]}
META_2014 = """\
{'asin': 'a', 'description': 'It\\'s &quot;oily&quot;', 'title': "Lotion", 'price': 9.99, \
'imUrl': 'http://ecx.images-amazon.com/images/I/a.jpg', 'related': {'also_bought': ['b']}, \
'salesRank': {'Beauty': 1}, 'brand': 'Nivea', 'categories': [['Beauty', 'Skin'], ['Beauty']]}
{'asin': 'b', 'categories': [['Beauty']]}
{'asin': 'never reviewed', 'title': 'Spare'}
"""
META_2018 = {
    "category": ["Video Games", "PC"],
    "description": ["A", "B&amp;C"],
    "title": "Heat",
    "brand": "Sega",
    "price": "$1,012.99",
    "imageURL": ["https://s/a._US40_.jpg"],
    "imageURLHighRes": ["https://s/a.jpg"],
    "asin": "a",
}
META_2023 = {
    "main_category": "All Beauty",
    "title": "Spray",
    "average_rating": 4.8,
    "features": [],
    "description": ["If given the luxury"],
    "price": None,
    "images": [
        {"thumb": "https://t", "large": "https://l2", "variant": "PT01", "hi_res": None},
        {"thumb": "https://t", "large": "https://l1", "variant": "MAIN", "hi_res": "https://h1"},
    ],
    "store": "Herbivore",
    "categories": [],
    "details": {"Brand": "Botanicals"},
    "parent_asin": "a",
}


def fields(*values):
    return ",".join(map(str, values))


def write(path, lines):
    text = "".join(line + "\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def histories(dataset):
    users = dataset.user_frame()["user_id"].to_list()
    items = dataset.item_frame()["item_id"].to_list()
    edges = dataset.offsets
    return {
        user: [
            (items[dataset.items[row]], int(dataset.timestamps[row]))
            for row in range(edges[index], edges[index + 1])
        ]
        for index, user in enumerate(users)
    }


def lines_of(name):
    if name == "amazon-2014":
        return [REVIEW_2014 % row for row in ROWS]
    if name == "amazon-2018":
        return [REVIEW_2018 % (rating, user, item, time) for user, item, rating, time in ROWS]
    return [REVIEW_2023 % (rating, item, item, user, time) for user, item, rating, time in ROWS]


@pytest.mark.parametrize("name", ["amazon-2014", "amazon-2018", "amazon-2023"])
@pytest.mark.parametrize("suffix", [".json.gz", ".json", ".jsonl"])
def test_reviews_become_histories_in_order_of_time_ties_as_in_the_file(tmp_path, name, suffix):
    source = write(tmp_path / f"reviews{suffix}", lines_of(name))
    dataset = prepare(name, source=source, out=tmp_path / "out")
    assert histories(dataset) == HISTORIES
    assert dataset.manifest.filters == ()
    weights = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["weight"].to_list()
    assert weights == [4.0, 2.0, 1.0, 5.0]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("amazon-2014", [fields(*row) for row in ROWS]),
        ("amazon-2018", [fields(i, u, r, t) for u, i, r, t in ROWS]),
        (
            "amazon-2023",
            ["user_id,parent_asin,rating,timestamp", *(fields(*row) for row in ROWS)],
        ),
        (
            "amazon-2023",
            [
                "user_id,parent_asin,rating,timestamp,history",
                *(fields(*row, "x y") for row in ROWS),
            ],
        ),
    ],
)
def test_ratings_files_give_the_same_histories(tmp_path, name, lines):
    source = write(tmp_path / "ratings.csv", lines)
    assert histories(prepare(name, source=source, out=tmp_path / "out")) == HISTORIES


def test_parquet_of_2023_gives_the_same_histories(tmp_path):
    frame = pl.DataFrame([json.loads(line) for line in lines_of("amazon-2023")])
    frame.write_parquet(tmp_path / "full-00000-of-00001.parquet")
    source = tmp_path / "full-00000-of-00001.parquet"
    assert histories(prepare("amazon-2023", source=source, out=tmp_path / "out")) == HISTORIES


def test_the_three_parts_of_a_2023_split_are_read_together(tmp_path):
    header = "user_id,parent_asin,rating,timestamp"
    by_time = sorted(ROWS, key=lambda row: row[3])
    for part, rows in {"train": by_time[:2], "valid": by_time[2:3], "test": by_time[3:]}.items():
        write(tmp_path / f"B.{part}.csv.gz", [header, *(fields(*row) for row in rows)])
    source = tmp_path / "B.train.csv.gz"
    dataset = prepare("amazon-2023", source=source, out=tmp_path / "out")
    assert dict(histories(dataset)) == HISTORIES
    (tmp_path / "B.valid.csv.gz").unlink()
    with pytest.raises(DataError, match=r"B\.valid\.csv\.gz must stand beside"):
        prepare("amazon-2023", source=source, out=tmp_path / "out")


def test_k_core_keeps_content_with_its_items(tmp_path):
    rows = [("u1", "x", 1.0, 1), ("u1", "b", 1.0, 2), ("u2", "b", 1.0, 3), ("u2", "a", 1.0, 4)]
    rows += [("u1", "a", 1.0, 5)]
    source = write(tmp_path / "r.json", [REVIEW_2014 % row for row in rows])
    meta = write(tmp_path / "m.json", [f"{{'asin': {i!r}, 'title': {i.upper()!r}}}" for i in "abx"])
    options = PrepareOptions(metadata_file=meta, min_item_count=2, min_user_count=2)
    dataset = prepare("amazon-2014", options, source=source, out=tmp_path / "out")
    frame = dataset.item_frame()
    assert frame["item_id"].to_list() == ["b", "a"]
    assert frame["title"].to_list() == ["B", "A"]


def test_metadata_of_2014_are_python_literals(tmp_path):
    source = write(tmp_path / "r.json.gz", lines_of("amazon-2014"))
    (tmp_path / "meta_X.json.gz").write_bytes(gzip.compress(META_2014.encode()))
    options = PrepareOptions(metadata_file=tmp_path / "meta_X.json.gz")
    frame = prepare("amazon-2014", options, source=source, out=tmp_path / "out").item_frame()
    assert frame.height == 2
    assert frame.row(by_predicate=pl.col("item_id") == "a", named=True) == {
        "item_index": frame["item_id"].to_list().index("a"),
        "item_id": "a",
        "title": "Lotion",
        "brand": "Nivea",
        "categories": ["Beauty", "Skin"],
        "price": 9.99,
        "description": 'It\'s "oily"',
        "image_urls": ["http://ecx.images-amazon.com/images/I/a.jpg"],
    }
    other = frame.row(by_predicate=pl.col("item_id") == "b", named=True)
    assert (other["title"], other["price"], other["image_urls"]) == (None, None, None)


def test_metadata_of_2018():
    assert as_row(META_2018) == {
        "item_id": "a",
        "title": "Heat",
        "brand": "Sega",
        "categories": ["Video Games", "PC"],
        "price": 1012.99,
        "description": "A B&C",
        "image_urls": ["https://s/a.jpg"],
    }


def test_scraps_of_web_pages_in_2018_are_no_titles_and_no_prices():
    scrap = "var aPageStart = (new Date()).getTime();"
    row = as_row({"asin": "a", "title": scrap, "price": ".a-box-inner{background-color:#fff}"})
    assert (row["title"], row["price"]) == (None, None)


@pytest.mark.parametrize(
    ("price", "number"),
    [
        (9.99, 9.99),
        ("$12.99", 12.99),
        ("$5.99 - $12.00", 5.99),
        ("from 14.99", 14.99),
        ("None", None),
        ("", None),
        (None, None),
        (True, None),
        ("1 of 2", None),
    ],
)
def test_prices(price, number):
    assert as_row({"asin": "a", "price": price})["price"] == number


def test_metadata_of_2023_as_json_lines_and_as_parquet_are_the_same(tmp_path):
    expected = {
        "item_id": "a",
        "title": "Spray",
        "brand": "Botanicals",
        "categories": ["All Beauty"],
        "price": None,
        "description": "If given the luxury",
        "image_urls": ["https://h1", "https://l2"],
    }
    path = write(tmp_path / "meta.jsonl", [json.dumps(META_2023)])
    assert read_metadata(path, tmp_path, 0).collect().to_dicts() == [expected]
    # As the hub writes it: pictures as a struct of lists, details as JSON text, price as text.
    images = {
        key: [picture[key] for picture in META_2023["images"]] for key in META_2023["images"][0]
    }
    row = META_2023 | {"images": images, "details": json.dumps(META_2023["details"])}
    pl.DataFrame([row | {"price": "None"}]).write_parquet(tmp_path / "meta.parquet")
    found = read_metadata(tmp_path / "meta.parquet", tmp_path, 0).collect().to_dicts()
    assert found == [expected]


def test_malformed_reviews_are_counted_named_and_left_out(tmp_path, capsys):
    good = lines_of("amazon-2014")
    lines = [
        good[0],
        "no json",
        good[1],
        "",
        '{"asin": "a"}',
        good[2],
        '{"reviewerID": "u',
        good[3],
    ]
    source = write(tmp_path / "r.json", lines)
    dataset = prepare("amazon-2014", source=source, out=tmp_path / "out")
    assert histories(dataset) == HISTORIES
    note = "r.json: 3 malformed lines left out (2, 5, 7)"
    assert dataset.manifest.filters == (note,)
    assert note in capsys.readouterr().err


def test_bytes_that_are_no_text_spoil_an_id_but_not_a_review(tmp_path):
    lines = [line.encode() for line in lines_of("amazon-2014")]
    spoilt = [lines[0].replace(b"Heavenly", b"H\xffvenly"), lines[1].replace(b'"u1"', b'"u\xff"')]
    (tmp_path / "r.json").write_bytes(b"\n".join([*spoilt, lines[1], *lines[2:]]))
    dataset = prepare("amazon-2014", source=tmp_path / "r.json", out=tmp_path / "out")
    assert histories(dataset) == HISTORIES
    assert dataset.manifest.filters == ("r.json: 1 malformed lines left out (2)",)


def test_more_malformed_lines_than_allowed_stop(tmp_path):
    source = write(tmp_path / "r.json", [*lines_of("amazon-2014"), "{", "{", "{"])
    options = PrepareOptions(max_bad_lines=2)
    with pytest.raises(DataError, match=r"3 malformed lines left out \(5, 6, 7\); 2 are allowed"):
        prepare("amazon-2014", options, source=source, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_malformed_metadata_are_counted_and_stop_beyond_the_limit(tmp_path, capsys):
    path = write(tmp_path / "m.json", ["{'asin': 'a'}", "{'asin': ", "{'title': 'x'}", "[1]"])
    assert read_metadata(path, tmp_path, 3).collect()["item_id"].to_list() == ["a"]
    assert "m.json: 3 malformed lines left out (2, 3, 4)" in capsys.readouterr().err
    with pytest.raises(DataError, match="2 are allowed"):
        read_metadata(path, tmp_path, 2)


def test_a_line_of_metadata_is_never_executed():
    assert parse_line(b"__import__('os').getcwd()") is None


def test_a_cut_archive_is_told(tmp_path):
    whole = gzip.compress(META_2014.encode())
    (tmp_path / "m.json.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="is damaged"):
        read_metadata(tmp_path / "m.json.gz", tmp_path, 0)


def test_two_sources_of_content_are_one_too_many(tmp_path):
    source = write(tmp_path / "r.json", lines_of("amazon-2014"))
    options = PrepareOptions(metadata_file=source, item_file=source)
    with pytest.raises(ConfigError, match="leave one out"):
        prepare("amazon-2014", options, source=source, out=tmp_path / "out")


def test_real_beauty_written_as_in_2014_is_read_as_it_was(real_data, tmp_path):
    folder = real_data("amazon-beauty-2014")
    frame = pl.read_csv(folder / "interactions.csv.gz").with_columns(
        pl.col("user_id", "item_id").cast(pl.String)
    )
    reviews = frame.select(
        reviewerID="user_id", asin="item_id", overall=pl.lit(5.0), unixReviewTime="timestamp"
    )
    reviews.write_ndjson(tmp_path / "reviews_Beauty_5.json")
    items = pl.read_csv(folder / "items.csv", infer_schema=False)
    write(
        tmp_path / "meta_Beauty.json",
        [
            repr({"asin": i, "title": t, "categories": [c.split(" > ")]})
            for i, t, c in items.select("item_id", "title", "categories").rows()
        ],
    )
    options = PrepareOptions(
        metadata_file=tmp_path / "meta_Beauty.json", min_user_count=5, min_item_count=5
    )
    dataset = prepare(
        "amazon-2014", options, source=tmp_path / "reviews_Beauty_5.json", out=tmp_path / "out"
    )
    assert (dataset.num_users, dataset.num_items, len(dataset.items)) == (22363, 12101, 198502)
    ordered = frame.sort("user_id", "position")
    found = pl.DataFrame(
        [
            dataset.user_frame()["user_id"].gather(
                pl.Series(range(dataset.num_users))
                .repeat_by(pl.Series(dataset.offsets).diff().drop_nulls())
                .explode()
            ),
            dataset.item_frame()["item_id"].gather(pl.Series(dataset.items)),
        ]
    )
    # Times of day are lost, so ties may stand otherwise than `position` has them: sets of a day.
    found = found.with_columns(timestamp=pl.Series(dataset.timestamps))
    keys = ["user_id", "timestamp", "item_id"]
    assert found.sort(keys).select(keys).equals(ordered.sort(keys).select(keys))
    assert dataset.item_frame()["title"].null_count() == items["title"].null_count()
