"""Encoding of items in batches, resumable, written as float16.

What is done so far stands in `features/.NAME.partial`, which readers do not see, and which counts
only for the same encoder, items and inputs.
Shape legend: N items, M items with an input, D width, B batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from data_prep.item_features.attach import item_ids
from recsys.arrays import Float32, Int64
from recsys.data.content_hash import item_ids_hash
from recsys.data.features.manifest import (
    FEATURES,
    FeatureManifest,
    FeatureOrigin,
    check_feature_name,
)
from recsys.data.features.writing import write_vectors
from recsys.errors import DataError
from recsys.files.atomic import held, remove, reserve, write_json
from recsys.progress import console, progress

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
_NAMED = 5
_FIRST_LOOK = 50


class BadInputError(Exception):
    """One item's input is broken; it is skipped and counted."""


class Encoder(Protocol[T_contra]):
    """A frozen network."""

    @property
    def name(self) -> str:
        """With its version, for the manifest."""

    @property
    def sha256(self) -> str:
        """Of its weights."""

    def encode(self, batch: Sequence[T_contra]) -> Float32:
        """Vectors `[B, D]`."""


class Inputs(Protocol[T_co]):
    """What the items are encoded from."""

    @property
    def source(self) -> str:
        """For the manifest: columns, folder or archive; never a local path."""

    @property
    def items(self) -> Int64:
        """`[M]` indices of the items that have an input, ascending."""

    @property
    def fingerprint(self) -> str:
        """Another one whenever an input may be another."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is known to be absent."""

    def load(self, item: int) -> T_co:
        """The input of one item; raises BadInputError where it is broken."""


@dataclass(frozen=True)
class Job(Generic[T]):
    """One feature to be made."""

    folder: Path
    """The dataset folder."""
    name: str
    """Of the feature."""
    encoder: Encoder[T]
    inputs: Inputs[T]
    batch_size: int
    """B: so many inputs are in memory at once."""


def run(job: Job[T]) -> FeatureManifest:
    """Encodes all inputs and writes the feature.

    A broken input is skipped, counted and named; when more than half of the first ones are
    broken, something else is wrong.

    Raises:
        DataError: no item has an input, more than half are broken, or a vector is not finite.
        BusyError: another process makes the same feature.
    """
    check_feature_name(job.name)
    if not len(job.inputs.items):
        raise DataError(f"no item has an input in {job.inputs.source}; give the right one")
    busy = f"another process makes the feature {job.name} of {job.folder}; wait for it"
    (job.folder / FEATURES).mkdir(exist_ok=True)
    with held(job.folder / FEATURES / f".{job.name}.lock", busy):
        return _run(job)


def _run(job: Job[T]) -> FeatureManifest:
    partial = _Partial(job)
    with progress() as bar:
        task = bar.add_task(f"encode {job.name}", total=len(job.inputs.items))
        bar.update(task, completed=partial.done)
        for start in range(partial.done, len(job.inputs.items), job.batch_size):
            items = job.inputs.items[start : start + job.batch_size]
            good = list(_loaded(job, partial, items))
            if good:
                partial.put([item for item, _ in good], job.encoder.encode([x for _, x in good]))
            partial.save(start + len(items))
            _check_failures(partial)
            bar.update(task, completed=partial.done)
    manifest = _finish(job, partial)
    remove(partial.folder)
    return manifest


def _loaded(job: Job[T], partial: _Partial[T], items: Int64) -> Iterator[tuple[int, T]]:
    for item in items.tolist():
        try:
            yield item, job.inputs.load(item)
        except BadInputError as error:
            partial.failed[item] = str(error)


def _check_failures(partial: _Partial[T]) -> None:
    if partial.done >= _FIRST_LOOK and 2 * len(partial.failed) > partial.done:
        raise _mostly_broken(partial)


def _mostly_broken(partial: _Partial[T]) -> DataError:
    item, reason = next(iter(partial.failed.items()))
    return DataError(
        f"{len(partial.failed):,} of {partial.done:,} inputs are broken, the first (item "
        f"{partial.ids[item]!r}): {reason}. Give the right files; what was done is kept in "
        f"{partial.folder}"
    )


def _finish(job: Job[T], partial: _Partial[T]) -> FeatureManifest:
    good = np.setdiff1d(job.inputs.items, np.array(list(partial.failed), dtype=np.int64))
    if partial.vectors is None or not len(good):
        raise _mostly_broken(partial)
    present = np.zeros(len(partial.vectors), dtype=np.bool_)
    present[good] = True
    notes = (*job.inputs.notes, *_failures(partial))
    origin = FeatureOrigin(
        source=job.inputs.source,
        encoder=job.encoder.name,
        encoder_sha256=job.encoder.sha256,
        notes=notes,
    )
    manifest = write_vectors(job.folder, job.name, partial.vectors, present, origin)
    for note in notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    return manifest


def _failures(partial: _Partial[T]) -> tuple[str, ...]:
    failed = partial.failed
    if not failed:
        return ()
    shown = list(failed.items())[:_NAMED]
    named = "; ".join(f"item {partial.ids[item]!r}: {why}" for item, why in shown)
    return (f"{len(failed):,} broken inputs skipped ({named}{' ...' * (len(failed) > _NAMED)})",)


class _Partial(Generic[T]):
    """What is done so far, on disk."""

    def __init__(self, job: Job[T]) -> None:
        self.folder = job.folder / FEATURES / f".{job.name}.partial"
        self._state, self._file = self.folder / "state.json", self.folder / "vectors.npy"
        self.ids = item_ids(job.folder)
        self._key = [job.encoder.sha256, job.inputs.fingerprint, item_ids_hash(job.folder)]
        self.done = 0
        self.failed: dict[int, str] = {}
        self.vectors: npt.NDArray[np.float16] | None = None
        if not self._resumed():
            remove(self.folder)
            self.folder.mkdir(parents=True)

    def _resumed(self) -> bool:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if self._file.exists():
                self.vectors = np.load(self._file, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError):  # nothing there, or cut short by the kill
            return False
        failed = {int(item): reason for item, reason in state["failed"].items()}
        if state["key"] != self._key or (self.vectors is None and len(failed) < state["done"]):
            self.vectors = None
            return False
        self.done, self.failed = state["done"], failed
        console.print(f"{self.done:,} inputs are encoded already; going on", soft_wrap=True)
        return True

    def put(self, items: list[int], vectors: Float32) -> None:
        """Keeps the vectors `[B, D]` of some items."""
        if self.vectors is None:
            shape = (len(self.ids), vectors.shape[1])
            self.vectors = np.lib.format.open_memmap(self._file, "w+", np.float16, shape)
            reserve(self._file)
        if not (np.abs(vectors) <= np.finfo(np.float16).max).all():
            raise DataError(
                f"the encoder gave NaN or a number beyond f16 among items {self.ids[items[0]]!r} "
                f"to {self.ids[items[-1]]!r}; use another model"
            )
        self.vectors[items] = vectors

    def save(self, done: int) -> None:
        """From now on these inputs need not be encoded again."""
        self.done = done
        if isinstance(self.vectors, np.memmap):
            self.vectors.flush()  # the rows before the count that vouches for them
        write_json(self._state, {"key": self._key, "done": done, "failed": self.failed})
