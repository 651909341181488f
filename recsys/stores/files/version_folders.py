"""Versions as folders side by side, and a link that is replaced by a rename.

    STORES/items_v1_0123456789ab/  STORES/items_v2_ba9876543210/  STORES/items -> items_v2_...

Readers open what they need under `STORES/items/`. A push never touches the version they read.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from recsys.errors import DataError
from recsys.files.atomic import held, remove, write_json
from recsys.files.scratch import scratch_folder
from recsys.stores.plan import Plan
from recsys.stores.store import in_order

ABOUT = "about.json"


class VersionFolders:
    """The folder of a store of files."""

    def __init__(self, location: str, name: str) -> None:
        """Makes the folder if it is missing, and keeps other pushes to it out.

        Raises:
            BusyError: another push writes there.
            DataError: something else stands where the link belongs.
        """
        self.root, self.name = Path(location), name
        self.root.mkdir(parents=True, exist_ok=True)
        link = self.root / name
        if link.exists() and not link.is_symlink():
            raise DataError(f"{link} is in the way of the link to the current version; move it")
        self._lock = ExitStack()
        self._lock.enter_context(
            held(
                self.root / f".{name}.lock", f"{self.root} is written by another push; wait for it"
            )
        )

    def __getitem__(self, version: str) -> Path:
        """The folder of a version."""
        return self.root / version

    def versions(self) -> list[str]:
        """Names, oldest first."""
        return in_order(self.name, [each.name for each in self.root.iterdir() if each.is_dir()])

    def current(self) -> str | None:
        """Where the link leads."""
        link = self.root / self.name
        return link.readlink().name if link.is_symlink() else None

    def begin(self, version: str, plan: Plan) -> Path:
        """The folder of a version, which says what it holds."""
        folder = self[version]
        folder.mkdir(exist_ok=True)
        if not (folder / ABOUT).is_file():
            write_json(folder / ABOUT, plan.card())
        return folder

    def switch(self, version: str) -> None:
        """Leads the link to a version."""
        link = self.root / self.name
        with scratch_folder(link) as scratch:
            (scratch / self.name).symlink_to(version)
            (scratch / self.name).replace(link)

    def drop(self, version: str) -> None:
        """Removes a version."""
        remove(self[version])

    def close(self) -> None:
        """Lets other pushes in."""
        self._lock.close()


class InFolders:
    """The methods of `Store` that are the same for every store of files."""

    folders: VersionFolders

    def versions(self) -> list[str]:
        """See `Store`."""
        return self.folders.versions()

    def current(self) -> str | None:
        """See `Store`."""
        return self.folders.current()

    def switch(self, version: str) -> None:
        """See `Store`."""
        self.folders.switch(version)

    def drop(self, version: str) -> None:
        """See `Store`."""
        self.folders.drop(version)

    def close(self) -> None:
        """See `Store`."""
        self.folders.close()
