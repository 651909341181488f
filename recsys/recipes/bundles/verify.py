"""`recsys verify`: every file of a bundle compared with its checksum."""

from __future__ import annotations

from pathlib import Path

from recsys.errors import ChecksumError
from recsys.retrieval.bundle.loading import verify_bundle
from recsys.retrieval.bundle.manifest import read_manifest
from recsys.retrieval.bundle.versions import find_bundle


def verify(bundle: str | Path) -> int:
    """Compares every byte of a bundle with what was written.

    Returns:
        The number of files that were compared.

    Raises:
        ChecksumError: naming every difference.
    """
    if found := verify_bundle(bundle):
        lines = "\n".join(f"  {line}" for line in found)
        raise ChecksumError(f"{bundle} is not what was exported; export it again:\n{lines}")
    return len(read_manifest(find_bundle(bundle)).files)
