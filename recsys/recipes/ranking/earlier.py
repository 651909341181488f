"""`recsys rank earlier`: a run as it would have been before the validation part was known."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import polars as pl

from recsys.data.dataset import (
    INTERACTIONS,
    Dataset,
    DatasetOrigin,
    load_dataset,
    write_indexed,
)
from recsys.data.features.manifest import FEATURES
from recsys.data.manifest import MANIFEST, DatasetManifest, load_manifest
from recsys.data.splitting import Split
from recsys.errors import DataError, ProtocolError, RunError
from recsys.files.atomic import atomic_path
from recsys.recipes.training.train import train
from recsys.runs.folder import check_empty, check_place
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import RUN, load_config

DATA = "data"


def rank_earlier(run: str | Path | LoadedRun, out: str | Path) -> Path:
    """Trains the config of a run on its data set without the test part.

    What the run validates on is then the test part of the earlier one, and the end of its training
    part the earlier one's validation part: a ranker may learn from that, as neither run was
    trained on what it is to predict.

    Args:
        run: a finished run that was fitted on its training part.
        out: the new run folder; its data set goes beside it, as `OUT-data`.

    Returns:
        The run folder.

    Raises:
        ProtocolError: the run was fitted on more than its training part.
        RunError, DataError: see their messages.
    """
    loaded, folder = open_run(run), Path(out)
    if loaded.fit_on != "train":
        raise ProtocolError(
            f"{loaded.folder} was fitted on {loaded.fit_on}; an earlier run needs one that was "
            "fitted on train"
        )
    place = folder.with_name(f"{folder.name}-{DATA}")
    check_place(folder, resume=True)
    if (folder / RUN).is_file() and load_config(folder).data.resolve() != place.resolve():
        raise RunError(
            f"{folder} holds another run than the earlier one of {loaded.folder}; choose another "
            "--out"
        )
    earlier = without_test(loaded.dataset, loaded.split, place)
    config = loaded.config.model_copy(update={"data": earlier.folder})
    return train(config, out=folder, resume=True)


def without_test(dataset: Dataset, split: Split, out: Path) -> Dataset:
    """The data set up to the end of the validation part, with the same indices and features.

    Raises:
        DataError, RunError: something else stands at `out`, or a data set of other rows.
    """
    if (out / MANIFEST).is_file():
        _check_same(dataset, split, out)
    else:
        check_empty(out, "place for the data set")
        _write(dataset, split, out)
    if (dataset.folder / FEATURES).is_dir() and not (out / FEATURES).is_dir():
        # Features of items are known at any time, and their rows are the same.
        with atomic_path(out / FEATURES) as temporary:
            shutil.copytree(dataset.folder / FEATURES, temporary)
    return load_dataset(out)


def _write(dataset: Dataset, split: Split, out: Path) -> None:
    rows = pl.read_parquet(dataset.folder / INTERACTIONS, glob=False).with_row_index("place")
    ends = pl.Series("valid_end", split.valid_end)
    kept = rows.filter(pl.col("place") < ends.gather(rows["user_index"])).drop("place")
    users, items = dataset.user_frame(), dataset.item_frame()
    write_indexed(
        out,
        kept,
        user_ids=users.drop("user_index"),
        item_ids=items["item_id"],
        name=_name(dataset.manifest),
        items=items.drop("item_index") if items.width > 2 else None,
        origin=_origin(dataset.manifest),
        split=split.rule,
    )


def _name(manifest: DatasetManifest) -> str:
    return f"{manifest.name}-without-test"


def _origin(manifest: DatasetManifest) -> DatasetOrigin:
    tree = manifest.model_dump()
    known = {key: tree[key] for key in asdict(DatasetOrigin()) if key in tree}
    return DatasetOrigin(**known | {"filters": (*manifest.filters, "without the test part")})


def _check_same(dataset: Dataset, split: Split, out: Path) -> None:
    """Raises DataError where another data set stands, or one that was made of other rows."""
    with tempfile.TemporaryDirectory() as scratch:
        _write(dataset, split, Path(scratch) / DATA)
        wanted = load_manifest(Path(scratch) / DATA)
    found = load_manifest(out)
    if found.content_hash != wanted.content_hash:
        same = found.name == wanted.name
        told = "was made of other rows" if same else "is another data set"
        raise DataError(
            f"{out} {told} (content hash {found.content_hash[:12]}) than {dataset.folder} without "
            f"its test part ({wanted.content_hash[:12]}), and is called {found.name}; choose "
            "another --out"
        )
