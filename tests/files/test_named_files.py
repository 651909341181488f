"""Names that a manifest may give to files."""

import pytest

from recsys.errors import DataError
from recsys.files.named import check_named, inside


@pytest.mark.parametrize("name", ["a", "a/b.c", "items/0000-0008-int8/codes", "..a", "a..b", " a"])
def test_a_file_of_the_folder_is_given_its_path(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", [
    "", ".", "..", "/etc/passwd", "//etc/passwd", "../a", "a/../../b", "a/..", "a/../b", "./a",
    "a//b", "a/", "a/./b", "C:/a", "C:a", "c:\\a", "\\\\host\\share\\a", "..\\a", "a\\b", "a\0b",
])  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="a relative path inside the folder is expected"):
        inside(tmp_path, name)


def test_links_may_stay_in_the_folder_and_not_leave_it(tmp_path):
    home, away = tmp_path / "home", tmp_path / "home-of-another"
    for folder in (home, away):
        folder.mkdir()
        (folder / "file").write_text("")
    (home / "near").symlink_to("file")
    (home / "far").symlink_to(away / "file")
    (home / "folder").symlink_to(away)
    (home / "circle").symlink_to("circle")
    (home / "whole").symlink_to(".")
    (tmp_path / "link").symlink_to(home)
    for folder in (home, tmp_path / "link"):
        assert inside(folder, "near").is_file()
        for name in ("far", "folder/file", "folder/absent", "whole"):
            with pytest.raises(DataError, match="points outside its folder"):
                inside(folder, name)
        with pytest.raises(DataError, match="cannot be followed"):
            inside(folder, "circle")


def test_what_is_not_listed_is_not_opened(tmp_path):
    check_named(tmp_path, ["a"], ["a", "b"], "make it again")
    with pytest.raises(DataError, match=r"lists no checksum of 'A', .*; make it again"):
        check_named(tmp_path, ["A"], ["a", "b"], "make it again")
    with pytest.raises(DataError, match=r"'\.\./b'"):
        check_named(tmp_path, ["a"], ["a", "../b"], "make it again")
