import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.errors import BusyError, RunError
from recsys.files.atomic import atomic_path, held, read_json, sha256_of, write_json, write_text
from recsys.files.scratch import is_scratch, sweep
from recsys.files.system_errors import explain


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


def put(folder, content):
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / "content").write_text(content)


def test_many_writers_of_one_file_or_folder_all_succeed_and_leave_nothing_behind(tmp_path):
    def write(number):
        for _ in range(25):
            write_json(tmp_path / "a.json", {"by": number})
            put(tmp_path / "data", str(number))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, number) for number in range(4)]:
            done.result()
    assert read_json(tmp_path / "a.json", "")["by"] in range(4)
    assert (tmp_path / "data" / "content").read_text() in "0123"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "data"]


def test_readers_of_a_folder_never_find_none_while_it_is_replaced(tmp_path):
    """The old one is exchanged for the new one in one step."""
    put(tmp_path / "data", "first")
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(lambda: [put(tmp_path / "data", "next") for _ in range(100)])
        while not writer.done():
            assert (tmp_path / "data" / "content").exists()
        writer.result()


KILLED = """
import os, signal, sys
from pathlib import Path
from recsys.files import atomic as files
if sys.argv[2] == "between":  # where names cannot be exchanged, there are two renames
    files._exchanged = lambda one, other: False
    files.os.fsync = lambda _: None
    rename = Path.rename
    Path.rename = lambda self, to: (rename(self, to), os.kill(os.getpid(), signal.SIGKILL))
with files.atomic_path(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "content").write_text("new")
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before", "between"])
def test_what_a_killed_writer_left_is_swept_and_what_it_had_moved_is_put_back(tmp_path, moment):
    data = tmp_path / "data"
    put(data, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(data), moment])
    assert killed.returncode == -signal.SIGKILL
    assert any(is_scratch(path) for path in tmp_path.iterdir())
    with pytest.raises(RuntimeError), atomic_path(data):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (data / "content").read_text() == "old"


def test_the_temporary_of_a_writer_that_lives_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("slow")
        write_text(tmp_path / "a.txt", "quick")
        sweep(tmp_path)
        assert temporary.read_text() == "slow"
    assert (tmp_path / "a.txt").read_text() == "slow"


def test_a_folder_that_shall_stay_is_not_replaced(tmp_path):
    put(tmp_path / "run", "first")
    with pytest.raises(OSError), atomic_path(tmp_path / "run", replace=False) as temporary:
        temporary.mkdir()
    assert (tmp_path / "run" / "content").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    put(tmp_path / "data", "kept")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "data", "lost")
    write_text(tmp_path / "file", "kept")
    with pytest.raises(NotADirectoryError):
        put(tmp_path / "file", "lost")
    assert (tmp_path / "data" / "content").read_text() == (tmp_path / "file").read_text() == "kept"


def test_a_lock_is_held_by_one_and_the_other_is_told(tmp_path):
    with held(tmp_path / ".lock", "busy"), pytest.raises(BusyError, match="busy"):  # noqa: SIM117
        with held(tmp_path / ".lock", "busy"):
            pass
    with held(tmp_path / ".lock", "free again"):
        assert (tmp_path / ".lock").is_file()


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL),
        OSError("200000 requested and 32768 written"),  # numpy
        OSError(f"{FULL} (os error 28)"),  # polars, csv
        ValueError(f"parquet: underlying IO error: {FULL} (os error 28)"),  # polars, parquet
        RuntimeError(f"write error in x: 262099 != 799968 ({FULL})"),  # faiss
    ],
)
def test_a_full_disk_is_told_with_the_path_in_whatever_words_a_library_says_it(tmp_path, error):
    with pytest.raises(OSError) as found, atomic_path(tmp_path / "a.bin"):
        raise error
    assert found.value.errno == errno.ENOSPC and found.value.filename == str(tmp_path / "a.bin")
    assert f"no room for {tmp_path / 'a.bin'} (" in explain(found.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_another_file_is_not_laid_on_the_one_that_is_written(tmp_path):
    with pytest.raises(FileNotFoundError) as found, atomic_path(tmp_path / "a.bin"):
        (tmp_path / "absent").read_bytes()
    assert found.value.filename == str(tmp_path / "absent")
    with pytest.raises(RunError, match="of its own"), atomic_path(tmp_path / "a.bin"):
        raise RunError(f"{FULL}, but of its own")


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as found:
        write_text(tmp_path / "file" / "deep" / "a.txt", "x")
    assert explain(found.value).startswith(f"{tmp_path / 'file'} is a file where a folder is meant")


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


def test_a_refused_file_leaves_no_folder_that_was_made_for_it(tmp_path):
    with pytest.raises(RunError), atomic_path(tmp_path / "runs" / "deep" / "new"):
        raise RunError("refused")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError), atomic_path(tmp_path / "runs" / "deep" / "new"):
        raise RunError("refused")
    assert not list((tmp_path / "runs").iterdir())
