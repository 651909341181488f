"""`recsys bundle list`, `rollback`, `prune`: the versions of a bundle, and which is current."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recsys.errors import ChecksumError, ConfigError, DataError
from recsys.files.scratch import scratch_folder
from recsys.retrieval.bundle.loading import verify_bundle
from recsys.retrieval.bundle.manifest import BundleManifest, read_manifest
from recsys.retrieval.bundle.versions import current_version, locked, point_to, versions_of


@dataclass(frozen=True)
class Version:
    """One version of a bundle."""

    name: str
    current: bool
    manifest: BundleManifest
    nbytes: int
    """Of all its files."""


def list_versions(shelf: str | Path) -> list[Version]:
    """All versions, in their order.

    Raises:
        DataError: there is none, or one is damaged.
    """
    shelf = Path(shelf)
    names = versions_of(shelf)
    if not names:
        raise DataError(f"{shelf} holds no versions of a bundle; make one with `recsys export`")
    current, found = current_version(shelf), []
    for name in names:
        manifest = read_manifest(shelf / name)
        nbytes = sum(entry.size for entry in manifest.files.values())
        found.append(Version(name, name == current, manifest, nbytes))
    return found


def rollback(shelf: str | Path, version: str | None = None) -> str:
    """Makes an earlier version current, after every byte of it was compared.

    Args:
        shelf: the folder of all versions.
        version: its name; None: the one that was current before this one.

    Returns:
        Its name.

    Raises:
        DataError: there is no such version. ChecksumError: it is damaged.
    """
    shelf = Path(shelf)
    with locked(shelf):
        versions = {each.name: each for each in list_versions(shelf)}
        current = next((name for name, each in versions.items() if each.current), None)
        wanted = version or _before(versions, current)
        if wanted is None or wanted not in versions:
            raise DataError(
                f"{shelf} has no version {wanted or 'before ' + str(current)}; it has "
                f"{', '.join(versions)}"
            )
        if wrong := verify_bundle(shelf / wanted):
            raise ChecksumError(f"{shelf / wanted} is damaged, so {current} stays: {wrong[0]}")
        point_to(shelf, wanted)
    return wanted


def _before(versions: dict[str, Version], current: str | None) -> str | None:
    """The parent of the current version, where it exists; else the one numbered before."""
    if current is None:
        return None
    parent = versions[current].manifest.parent
    if parent in versions and parent != current:
        return parent
    earlier = [name for name in versions if name < current]
    return earlier[-1] if earlier else None


def prune(shelf: str | Path, keep: int) -> list[str]:
    """Removes all but the newest versions; never the current one, nor the one it goes back to.

    Args:
        shelf: the folder of all versions.
        keep: how many of the newest stay.

    Returns:
        Names of what was removed.

    Raises:
        ConfigError: none would stay. DataError: there is no version.
    """
    if keep < 1:
        raise ConfigError(f"{keep} versions to keep; keep one at least")
    shelf = Path(shelf)
    with locked(shelf):
        versions = {each.name: each for each in list_versions(shelf)}
        current = next((name for name, each in versions.items() if each.current), None)
        stay = {*list(versions)[-keep:], current, _before(versions, current)}
        gone = [name for name in versions if name not in stay]
        for name in gone:
            with scratch_folder(shelf / name) as scratch:  # a reader never sees half of it
                (shelf / name).rename(scratch / name)
    return gone
