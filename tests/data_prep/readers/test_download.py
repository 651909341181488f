import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_prep.readers.download import download, published_md5
from recsys.errors import ChecksumError, DownloadError
from tests.data_prep.readers.server import serve

BODY = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def site():
    with serve({"big.zip": BODY}) as site:
        yield site


def names(folder):
    """Of what a user sees; the file that downloaders lock is hidden, and stays."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_arrives_whole(site, tmp_path):
    path = download(f"{site.address}/big.zip", tmp_path / "in" / "big.zip", sha256=SHA256, md5=MD5)
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["big.zip"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(site, tmp_path):
    site.break_after = 100_000
    path = download(f"{site.address}/big.zip", tmp_path / "big.zip", sha256=SHA256)
    assert path.read_bytes() == BODY
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-"]


def test_what_an_earlier_run_fetched_is_not_fetched_again(site, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(BODY[:300_000])
    path = download(f"{site.address}/big.zip", tmp_path / "big.zip", sha256=SHA256)
    assert path.read_bytes() == BODY
    assert site.asked == [("/big.zip", "bytes=300000-")]


def broken_off(site, tmp_path):
    """A download of which 100,000 bytes arrive, in four tries."""
    site.break_after, site.keeps_breaking = 25_000, True
    with pytest.raises(DownloadError):
        download(f"{site.address}/big.zip", tmp_path / "big.zip")
    site.break_after = None
    assert (tmp_path / "big.zip.part").stat().st_size == 100_000


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_not_spliced(site, tmp_path, heeds_if_range):
    site.versions["big.zip"], site.heeds_if_range = '"one"', heeds_if_range
    broken_off(site, tmp_path)
    changed = BODY[::-1]
    site.files["big.zip"], site.versions["big.zip"] = changed, '"two"'
    assert download(f"{site.address}/big.zip", tmp_path / "big.zip").read_bytes() == changed
    assert names(tmp_path) == ["big.zip"]


def test_the_rest_of_the_same_version_alone_is_fetched(site, tmp_path):
    site.versions["big.zip"] = '"one"'
    broken_off(site, tmp_path)
    assert download(f"{site.address}/big.zip", tmp_path / "big.zip").read_bytes() == BODY
    assert site.asked[-1] == ("/big.zip", "bytes=100000-")


def test_a_part_of_which_nothing_tells_the_version_is_fetched_anew(site, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(b"z" * 1000)
    assert download(f"{site.address}/big.zip", tmp_path / "big.zip").read_bytes() == BODY
    assert site.asked == [("/big.zip", None)]


def test_of_several_that_ask_for_one_file_one_fetches_it(site, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        wanted = [(f"{site.address}/big.zip", tmp_path / "big.zip")] * 4
        paths = list(pool.map(lambda pair: download(*pair), wanted))
    assert all(path.read_bytes() == BODY for path in paths) and len(site.asked) == 1


def test_a_place_without_ranges_is_read_from_the_beginning(site, tmp_path):
    site.ranges = False
    (tmp_path / "big.zip.part").write_bytes(b"y" * 1000)
    assert download(f"{site.address}/big.zip", tmp_path / "big.zip").read_bytes() == BODY


def test_a_part_longer_than_the_file_is_thrown_away(site, tmp_path):
    (tmp_path / "big.zip.part").write_bytes(BODY + b"more")
    path = download(f"{site.address}/big.zip", tmp_path / "big.zip", sha256=SHA256)
    assert path.read_bytes() == BODY
    assert [wanted for _, wanted in site.asked] == [f"bytes={len(BODY) + 4}-", None]


def test_a_fetched_file_is_not_asked_for_again(site, tmp_path):
    for _ in range(2):
        download(f"{site.address}/big.zip", tmp_path / "big.zip")
    assert len(site.asked) == 1


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_the_file_removed(site, tmp_path, kind):
    wrong = {"sha256": "0" * 64, "md5": "0" * 32}[kind]
    with pytest.raises(ChecksumError, match=rf"{site.address}/big.zip.*{kind}.*{wrong}.*--source"):
        download(f"{site.address}/big.zip", tmp_path / "big.zip", **{kind: wrong})
    assert names(tmp_path) == []


def test_a_cached_file_must_have_the_asked_checksum_too(site, tmp_path):
    (tmp_path / "big.zip").write_bytes(b"another file")
    with pytest.raises(ChecksumError, match="removed"):
        download(f"{site.address}/big.zip", tmp_path / "big.zip", sha256=SHA256)
    assert not (tmp_path / "big.zip").exists()


def test_an_absent_file_names_the_address_and_the_remedy(site, tmp_path):
    with pytest.raises(DownloadError, match=rf"{site.address}/none.zip answered 404.*--source"):
        download(f"{site.address}/none.zip", tmp_path / "none.zip")
    assert names(tmp_path) == []


def test_an_unreachable_place_names_the_address_and_the_remedy(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/big.zip"
    with pytest.raises(DownloadError, match=rf"{address} cannot be reached.*--source"):
        download(address, tmp_path / "big.zip")
    with pytest.raises(DownloadError, match=rf"{address}.md5 cannot be reached"):
        published_md5(address)


@pytest.mark.parametrize("form", ["{}  big.zip\n", "MD5 (big.zip) = {}\n"])
def test_both_forms_of_a_published_md5_are_read(site, form):
    site.files["big.zip.md5"] = form.format(MD5).encode()
    assert published_md5(f"{site.address}/big.zip") == MD5


def test_an_unpublished_md5_is_none_and_nonsense_is_an_error(site):
    assert published_md5(f"{site.address}/big.zip") is None
    site.files["big.zip.md5"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="no checksum"):
        published_md5(f"{site.address}/big.zip")
