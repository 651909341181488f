"""Pictures from folders, archives and a local server; networks made up here."""

import io
import tarfile
import zipfile

import numpy as np
import polars as pl
import pytest

from data_prep.item_features.encoding import BadInputError, Job, run
from data_prep.item_features.image_inputs import image_files
from data_prep.item_features.image_urls import image_urls
from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.errors import ConfigError, DataError, DownloadError
from tests.data_prep.readers.server import serve

Image = pytest.importorskip("PIL.Image", reason="pictures need the extra image")

COLOURS = {"a": (10, 20, 30), "b": (200, 100, 0), "c": (0, 0, 255)}


class MeanColour:
    name, sha256 = "mean colour", "0" * 64

    def encode(self, batch):
        return np.array([np.asarray(picture).mean(axis=(0, 1)) for picture in batch], np.float32)


def picture(colour, kind="PNG", mode="RGB"):
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).convert(mode).save(stream, kind)
    return stream.getvalue()


FILES = {
    "deep/er/a.png": picture(COLOURS["a"]),
    "b.gif": picture(COLOURS["b"], "GIF"),
    "c.PNG": picture(COLOURS["c"], mode="RGBA"),
    "nobody.png": picture((1, 1, 1)),
    "notes.txt": b"no picture",
}


@pytest.fixture
def folder(tmp_path):
    items = ["a", "b", "c", "d"]
    frame = pl.DataFrame({"user_id": ["u"] * 4, "item_id": items})
    return write_dataset(tmp_path / "data", frame, name="small").folder


def packed(tmp_path, kind, files):
    path = tmp_path / f"pictures.{kind}" if kind != "folder" else tmp_path / "pictures"
    if kind == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                part = tarfile.TarInfo(name)
                part.size = len(data)
                archive.addfile(part, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_pictures_go_to_the_items_they_are_named_after(folder, tmp_path, kind):
    inputs = image_files(folder, packed(tmp_path, kind, FILES))
    manifest = run(Job(folder, "image", MeanColour(), inputs, 2))
    feature = load_features(folder).vectors["image"]
    assert feature.present.tolist() == [True, True, True, False]
    assert np.abs(feature.rows(np.arange(3)) - np.array(list(COLOURS.values()))).max() <= 1
    name = "pictures" if kind == "folder" else f"pictures.{kind}"
    assert manifest.origin.source == f"pictures of {name}"
    assert manifest.origin.notes == (
        f"1 of 4 items have nothing in {name}",
        f"1 of 4 ids of {name} are not items",
    )


def test_of_two_pictures_of_an_item_the_first_by_name_counts(folder, tmp_path):
    files = {"a.png": picture((1, 2, 3)), "b.png": picture((5, 5, 5)), "x/a.jpg": b"other"}
    inputs = image_files(folder, packed(tmp_path, "folder", files))
    assert inputs.load(0).getpixel((0, 0)) == (1, 2, 3)
    assert inputs.notes[-1] == "1 second pictures of an item left out"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is text",
        FILES["b.gif"][:30],
        picture((9, 9, 9))[:60],
        picture((9, 9, 9), "JPEG")[:200],
        picture((9, 9, 9), "WEBP")[:20],
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    ],
)
def test_a_corrupt_picture_is_a_broken_input_and_nothing_else(folder, tmp_path, data):
    inputs = image_files(folder, packed(tmp_path, "folder", {**FILES, "d.jpg": data}))
    with pytest.raises(BadInputError) as caught:
        inputs.load(3)
    assert "0x" not in str(caught.value)


def test_a_corrupt_picture_among_many_is_skipped_and_counted(tmp_path):
    ids = [f"i{n:03}" for n in range(300)]
    frame = pl.DataFrame({"user_id": ["u"] * 300, "item_id": ids})
    folder = write_dataset(tmp_path / "many", frame, name="many").folder
    good = picture((7, 7, 7))
    files = {f"{i}.png": good for i in ids} | {"i123.png": good[:50]}
    manifest = run(
        Job(folder, "image", MeanColour(), image_files(folder, packed(tmp_path, "zip", files)), 64)
    )
    assert manifest.num_present == 299
    assert "1 broken inputs skipped (item 'i123': " in manifest.origin.notes[0]
    assert not load_features(folder).vectors["image"].present[123]


def test_a_flipped_byte_in_an_archive_is_a_broken_input(folder, tmp_path):
    path = packed(tmp_path, "zip", FILES)
    data = bytearray(path.read_bytes())
    data[data.index(FILES["deep/er/a.png"]) + 40] ^= 255
    path.write_bytes(data)
    inputs = image_files(folder, path)
    with pytest.raises(BadInputError):
        inputs.load(0)
    inputs.load(1)


def test_a_changed_picture_changes_the_fingerprint(folder, tmp_path):
    place = packed(tmp_path, "folder", FILES)
    before = image_files(folder, place).fingerprint
    (place / "b.gif").write_bytes(FILES["b.gif"] + b"x")
    assert image_files(folder, place).fingerprint != before


def test_wrong_places_and_wrong_names_are_told(folder, tmp_path):
    with pytest.raises(DataError, match=r"there is no .*absent"):
        image_files(folder, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.bmp"):
        image_files(folder, tmp_path / "empty")
    (tmp_path / "x.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="unpack it"):
        image_files(folder, tmp_path / "x.tar.gz")
    (tmp_path / "x.tar").write_bytes(b"x")
    with pytest.raises(DataError, match="not a zip or tar file"):
        image_files(folder, tmp_path / "x.tar")
    foreign = packed(tmp_path, "folder", {"tt1.png": b"", "tt2.png": b""})
    with pytest.raises(DataError, match=r"'tt1', 'tt2'.*the data set has 'a'"):
        image_files(folder, foreign)


def with_urls(tmp_path, urls, column="image_urls"):
    items = pl.DataFrame({"item_id": list(urls), column: list(urls.values())})
    frame = pl.DataFrame({"user_id": ["u"] * len(urls), "item_id": list(urls)})
    return write_dataset(tmp_path / "urls", frame, name="urls", items=items).folder


def test_pictures_are_downloaded_once_and_what_fails_is_counted(tmp_path):
    with serve({"a.png": FILES["deep/er/a.png"], "b.gif": FILES["b.gif"]}) as site:
        folder = with_urls(
            tmp_path,
            {
                "a": [f"{site.address}/a.png", f"{site.address}/second.png"],
                "b": [f"{site.address}/b.gif"],
                "gone": [f"{site.address}/gone.png"],
                "none": None,
                "empty": [],
            },
        )
        inputs = image_urls(folder, "image_urls", tmp_path / "cache")
        manifest = run(Job(folder, "image", MeanColour(), inputs, 2))
        assert load_features(folder).vectors["image"].present.tolist() == [True, True] + [False] * 3
        assert manifest.origin.notes == (
            "2 of 5 items have no address",
            f"1 broken inputs skipped (item 'gone': {site.address}/gone.png answered 404)",
        )
        assert str(tmp_path) not in manifest.model_dump_json()
        site.asked.clear()
        image_urls(folder, "image_urls", tmp_path / "cache")
        assert site.asked == [("/gone.png", None)]


def test_a_download_that_breaks_off_is_tried_again_and_never_kept_in_part(tmp_path):
    body = FILES["deep/er/a.png"]
    with serve({"a.png": body}) as site:
        site.break_after = 20
        folder = with_urls(tmp_path, {"a": f"{site.address}/a.png"}, "poster")
        inputs = image_urls(folder, "poster", tmp_path / "cache")
        assert inputs.load(0).getpixel((0, 0)) == COLOURS["a"]
        assert [path.read_bytes() for path in (tmp_path / "cache").iterdir()] == [body]


def test_a_place_that_gives_nothing_is_told_at_once(tmp_path):
    with serve({}) as site:
        folder = with_urls(tmp_path, {str(i): f"{site.address}/{i}.png" for i in range(200)})
        with pytest.raises(DownloadError, match=r"none of the first 50 .* answered 404"):
            image_urls(folder, "image_urls", tmp_path / "cache")
        assert len(site.asked) == 50


def test_columns_without_addresses_are_told(tmp_path, folder):
    other = with_urls(tmp_path, {"a": "no address", "b": None})
    with pytest.raises(DataError, match="holds no http address"):
        image_urls(other, "image_urls", tmp_path / "cache")
    with pytest.raises(DataError, match="no column 'image_urls'"):
        image_urls(folder, "image_urls", tmp_path / "cache")


def test_pictures_come_from_one_place(folder, tmp_path):
    from data_prep import encode_images

    with pytest.raises(ConfigError, match="a single source"):
        encode_images(folder)
    with pytest.raises(ConfigError, match="a single source"):
        encode_images(folder, images=tmp_path, url_column="x")
