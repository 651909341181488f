import pytest

from recsys.errors import RunError
from recsys.files import atomic_path, read_json, sha256_of, write_json, write_text


def test_a_failure_leaves_what_stood_there_and_no_temporary(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "run"
    for content in ("one", "two"):
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [p.name for p in folder.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_left_aside_by_a_kill_is_put_back(tmp_path):
    (tmp_path / ".run.123.old").mkdir()
    (tmp_path / ".run.123.old" / "kept").write_text("x")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "run"):
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["run", "kept"]


def test_damaged_json_is_named_with_the_remedy(tmp_path):
    for text in ("{", "[1]"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(RunError, match=r"a\.json .*; train again"):
            read_json(tmp_path / "a.json", "train again")


def test_json_is_readable_and_the_hash_is_of_the_bytes(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"ä": 1})
    assert (tmp_path / "deep" / "a.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'
    write_text(tmp_path / "abc", "abc")
    assert sha256_of(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
