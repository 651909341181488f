"""Downloads over HTTP: resumed, checked, whole or absent."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
from filelock import FileLock
from rich.progress import Progress, TaskID

from recsys.errors import ChecksumError, DownloadError
from recsys.files.atomic import write_text
from recsys.files.system_errors import naming
from recsys.progress import progress

_TIMEOUT = httpx.Timeout(20.0, connect=4.0)
_TRIES = 4
_REMEDY = "check the network, or fetch the file yourself and give it with --source"


def download(url: str, target: Path, *, sha256: str | None = None, md5: str | None = None) -> Path:
    """Fetches `url` to `target`, unless it exists; a broken-off download goes on.

    What has arrived is kept in `<target>.part`, and in `<target>.part.version` which version of the
    file it is of; `target` appears only once it is whole and its checksums are right. Of several
    processes that ask for one target the first fetches it, the others wait.

    Args:
        url: the address.
        target: where the file shall stand.
        sha256: hex checksum it must have, if known; a file that exists must have it too.
        md5: the same, as older archives publish it.

    Raises:
        DownloadError: the address cannot be reached or does not give the file.
        ChecksumError: other bytes arrived; they are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        _check(str(target), target, {"sha256": sha256})
        return target
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_file():
            part = _Part(target, checked=bool(sha256 or md5))
            _fetch(url, part)
            _check(url, part.path, {"sha256": sha256, "md5": md5})
            part.path.replace(target)
            part.version.unlink(missing_ok=True)
    return target


class _Part:
    """What has arrived so far of a file."""

    def __init__(self, target: Path, *, checked: bool) -> None:
        """`checked`: a checksum will say whether the whole is of one piece."""
        self.path = target.with_name(target.name + ".part")
        self.version = target.with_name(target.name + ".part.version")
        self._checked = checked

    def start(self) -> int:
        """Bytes to go on from: none where nothing would tell that they are of another version."""
        proven = self._checked or self.version.is_file()
        return self.path.stat().st_size if self.path.is_file() and proven else 0

    def known_version(self) -> str:
        """Of the bytes that are there; empty: the place did not say."""
        return self.version.read_text("utf-8") if self.version.is_file() else ""

    def begin(self, version: str) -> None:
        """Forgets what was there."""
        self.path.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)
        if version:
            write_text(self.version, version)


def _version_of(response: httpx.Response) -> str:
    """What a place calls this version of a file: its strong ETag, or when it was changed."""
    tag: str = response.headers.get("ETag", "")
    changed: str = response.headers.get("Last-Modified", "")
    return tag if tag and not tag.startswith("W/") else changed


def published_md5(url: str) -> str | None:
    """The md5 that an archive publishes at `<url>.md5`; None where it publishes none (404).

    Raises:
        DownloadError: the address cannot be reached, or gives no md5.
    """
    address = f"{url}.md5"
    try:
        response = httpx.get(address, timeout=_TIMEOUT, follow_redirects=True)
    except httpx.HTTPError as error:
        raise _unreachable(address, error) from error
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    found = re.search(r"\b[0-9a-fA-F]{32}\b", response.text) if response.is_success else None
    if found is None:
        raise DownloadError(f"{address} answered {response.status_code} and no checksum; {_REMEDY}")
    return found.group().lower()


def _fetch(url: str, part: _Part) -> None:
    with progress() as bar:
        task = bar.add_task(f"download {url.rpartition('/')[2]}", total=None)
        for tries_left in reversed(range(_TRIES)):
            try:
                _fetch_rest(url, part, bar, task)
                break
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                raise DownloadError(f"{url} answered {status}; {_REMEDY}") from error
            except httpx.HTTPError as error:
                # An unreachable place is reported at once; only a broken-off transfer goes on.
                broken_off = isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)
                if not (tries_left and broken_off):
                    raise _unreachable(url, error) from error


def _fetch_rest(url: str, part: _Part, bar: Progress, task: TaskID) -> None:
    start, version = part.start(), part.known_version()
    # Compressed transfer would make offsets mean something else on the two sides.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    if start and version:
        headers["If-Range"] = version  # of another version the place then sends the whole
    with httpx.stream(
        "GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
    ) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.begin("")
            raise httpx.ReadError("the part downloaded before is not the beginning of this file")
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        found = _version_of(response)
        if resumed and version and found and found != version:  # a place that knows no If-Range
            part.begin("")
            raise httpx.ReadError("the part downloaded before is of another version of this file")
        if not resumed:
            part.begin(found)
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        bar.update(task, completed=start, total=start + int(length) if length else None)
        with part.path.open("ab") as stream, naming(part.path):
            for block in response.iter_bytes():
                stream.write(block)
                bar.update(task, advance=len(block))


def _check(origin: str, path: Path, expected: dict[str, str | None]) -> None:
    for name, checksum in expected.items():
        if checksum is None:
            continue
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, name).hexdigest()
        if actual != checksum:
            path.unlink()
            raise ChecksumError(
                f"{origin}: the file has {name} {actual}, {checksum} is expected; it was removed. "
                "Try again, or fetch the file yourself and give it with --source"
            )


def _unreachable(url: str, error: httpx.HTTPError) -> DownloadError:
    reason = str(error) or type(error).__name__
    return DownloadError(f"{url} cannot be reached ({reason}); {_REMEDY}")
