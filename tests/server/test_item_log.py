"""The log of run-time items loses nothing that is whole, and reads nothing that is not."""

import json
import zlib

import pytest

from recsys.errors import ChecksumError, DataError
from recsys.server.items.log import LOG, ItemLog, Mark

CHANGES = [
    {"number": 1, "put": {"a": {"vector": [1.0, 2.0]}}, "delete": []},
    {"number": 2, "put": {"é": {"columns": {"title": "x\ny"}}}, "delete": ["b"]},
    {"number": 3, "put": {}, "delete": ["a"]},
]


START = Mark()


def records(log, mark=START):
    with log.locked(alone=False):
        return [record for record, _ in log.records(mark)]


def write(log, changes):
    with log.locked(alone=True):
        mark = ([START] + [mark for _, mark in log.records(START)])[-1]
        for change in changes:
            mark = log.append(change, mark)
    return mark


@pytest.fixture
def log(tmp_path):
    return ItemLog(tmp_path / "items")


def test_what_was_written_is_read_from_any_mark_on(log):
    assert records(log) == [] and not log.changed(Mark())
    first = write(log, CHANGES[:1])
    assert not log.changed(first)
    other = ItemLog(log.path.parent)  # of another process
    write(other, CHANGES[1:])
    assert log.changed(first) and not log.replaced(first)
    assert records(log, first) == CHANGES[1:]
    assert records(log) == CHANGES


def test_whatever_a_killed_writer_leaves_behind_is_cut(log):
    write(log, CHANGES)
    whole = log.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        log.path.write_bytes(whole[:length])
        left = max(0, sum(end <= length for end in ends) - 1)  # the first line is the head
        assert records(log) == CHANGES[:left]
        write(log, CHANGES[left:])
        assert log.path.read_bytes() == whole
    log.path.write_bytes(whole + b"\0" * 100 + b"\n")  # blocks that never came to disk
    assert records(log) == CHANGES
    write(log, CHANGES[:1])
    assert records(log) == [*CHANGES, CHANGES[0]]


def test_a_changed_byte_is_an_error_not_another_record(log):
    write(log, CHANGES)
    whole = log.path.read_bytes()
    for place in range(len(whole)):
        if whole[place] == ord("\n"):
            continue
        log.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ChecksumError, match=r"truncate -s \d+"):
            records(log)
    text = json.dumps({"log": "recsys items", "schema_version": 2}).encode()
    log.path.write_bytes(b"%08x %b\n" % (zlib.crc32(text), text))
    with pytest.raises(DataError, match="no log of run-time items that this version reads"):
        records(log)


def test_a_log_that_cannot_be_written_keeps_what_it_had(log, monkeypatch):
    mark = write(log, CHANGES[:1])
    kept = log.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recsys.server.items.log.os.fsync", full)
    with log.locked(alone=True), pytest.raises(OSError, match="No space"):
        log.append(CHANGES[1], mark)
    assert log.path.read_bytes() == kept


def test_a_log_is_written_anew_without_what_is_void(log, monkeypatch):
    monkeypatch.setattr("recsys.server.items.log._LEAST", 0)
    fresh = [{"number": 9, "put": {"c": {"vector": [3.0]}}, "delete": ["d"]}]
    before = write(log, [*CHANGES * 5, *fresh])
    long = log.size
    log.rewrite()
    assert log.size < long / 2
    assert log.replaced(before)
    kept = [(set(record["put"]), set(record["delete"])) for record in records(log)]
    assert kept == [({"é"}, {"b"}), (set(), {"a"}), ({"c"}, {"d"})]
    shorter = log.path.read_bytes()
    log.rewrite()  # there is nothing void
    assert log.path.read_bytes() == shorter


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / LOG).write_text("")
    with pytest.raises(DataError, match=r"items\.folder=FOLDER"):
        ItemLog(tmp_path / LOG / "x")


def test_a_file_where_the_folder_is_meant_is_told(tmp_path):
    (tmp_path / "items").touch()
    with pytest.raises(DataError, match=r"items is a file where a folder is meant.*--items FOLDER"):
        ItemLog(tmp_path / "items")
