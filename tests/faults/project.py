"""A small project with everything the verbs work on, and what must hold of it at any time."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.dataset import MANIFEST, load_dataset
from recsys.data.features.manifest import feature_names, load_feature_manifest
from recsys.evaluation.metric_table import load_table
from recsys.files.scratch import is_scratch
from recsys.retrieval.bundle.loading import verify_bundle
from recsys.retrieval.bundle.versions import is_bundle
from recsys.runs.records import RUN, load_config, load_run_info
from recsys.training.checkpoint import WEIGHTS

CONFIG = """
data: data
threads: 1
model:
  granularities: {sizes: [4, 8]}
  history_length: 8
  encoder: {nested: true, num_layers: 1}
trainer: {epochs: 1}
"""
CSV = ["prepare", "csv", "time_column=none", "item_file=items.csv"]
FIRST = [
    [*CSV, "--source", "rows.csv", "--out", "data"],
    ["train", "config.yaml", "--out", "runs/one"],
    ["evaluate", "runs/one", "--no-baselines"],
    ["export", "runs/one", "bundle", "--no-tower"],
]
"""Commands that make the project."""
VERBS = {
    "prepare": [*CSV, "--source", "rows.csv", "--out", "new"],
    "prepare again": [*CSV, "--source", "other.csv", "--out", "data"],
    "prepare synthetic": ["prepare", "synthetic", "synthetic.num_users=50",
                          "synthetic.num_items=40", "synthetic.num_interactions=500",
                          "--out", "made"],
    "attach": ["attach", "data", "vectors.npz", "--modality", "text"],
    "columns": ["columns", "data", "genres"],
    "train": ["train", "config.yaml", "--out", "runs/new"],
    "train mapped": ["train", "config.yaml", "mapped=true", "--out", "runs/new"],
    "resume": ["train", "config.yaml", "trainer.epochs=2", "--out", "runs/one", "--resume"],
    "evaluate": ["evaluate", "runs/one", "--no-baselines", "--split", "valid"],
    "baselines": ["baselines", "data", "popularity", "--out", "table.json"],
    "compare": ["compare", "runs/one"],
    "report": ["report", "runs/one", "--out", "page"],
    "cut": ["cut", "runs/one", "runs/new", "--granularity", "4"],
    "calibrate": ["calibrate", "runs/one", "runs/new"],
    "export": ["export", "runs/one", "new", "--no-tower"],
    "export again": ["export", "runs/one", "bundle", "--no-tower"],
    "export parquet": ["export", "runs/one", "new", "--no-tower", "--tiers", "0:8:fp32:ram",
                       "--format", "parquet"],
    "verify": ["verify", "bundle"],
    "tradeoff": ["tradeoff", "runs/one", "codecs=[fp16]", "keeps=[10]", "--out", "page"],
    "bits": ["bits", "runs/one", "--bytes", "12", "--keep", "10"],
    "nest": ["nest", "vectors.npy", "new", "--method", "pca"],
    "study": ["study", "study.yaml", "--no-train", "--out", "page"],
}  # fmt: skip
OUTPUTS = {"--out": 1, "cut": 2, "calibrate": 2, "export": 2, "nest": 2}
"""Where a command names what it writes: so many words after this one."""
STUDY = "run: config.yaml\nmethods: [nested]\nseeds: [0]\n"


def make_inputs(folder: Path) -> None:
    """What is there before the first command."""
    rng = np.random.default_rng(0)
    for name, users in (("rows.csv", 60), ("other.csv", 50)):
        starts = np.repeat(rng.integers(0, 25, users), 8)
        items = (starts + np.tile(np.arange(8), users)) % 25
        pl.DataFrame({"user_id": np.repeat(np.arange(users), 8), "item_id": items}).write_csv(
            folder / name
        )
    genres = [["a|b", "b", "a|c"][item % 3] for item in range(25)]
    pl.DataFrame({"item_id": range(25), "genres": genres}).write_csv(folder / "items.csv")
    vectors = rng.normal(size=(25, 8)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    np.savez(folder / "vectors.npz", ids=np.arange(25).astype(str), vectors=vectors)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "study.yaml").write_text(STUDY)


def output_of(command: list[str]) -> str | None:
    """What a command shall write, where it names it."""
    for word, distance in OUTPUTS.items():
        if word in command and (place := command.index(word) + distance) < len(command):
            return command[place]
    return None


def check_whole(folder: Path) -> None:
    """Everything that exists is whole; hidden temporaries of the dead are nobody's."""
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not is_scratch(Path(place) / name)]
        path = Path(place)
        if MANIFEST in files:
            load_dataset(path, verify=True)
            for name in feature_names(path):
                load_feature_manifest(path, name, verify=True)
        elif RUN in files:
            _check_run(path)
        elif is_bundle(path) and path.parent == folder:
            assert verify_bundle(path) == [], path
        elif path.parent == folder / "runs" or path == folder / "made":
            raise AssertionError(f"{path} is neither a run nor a data set, with {names + files}")
        for name in files:
            _check_file(path / name)


def _check_run(path: Path) -> None:
    load_config(path)
    if load_run_info(path)["state"] == "finished":
        assert (path / WEIGHTS).is_file()
    for table in (path / "metrics").glob("*.json"):
        load_table(table)


def _check_file(path: Path) -> None:
    ends = {".html": "</html>", ".svg": "</svg>"}
    if path.suffix in ends:
        assert path.read_text().rstrip().endswith(ends[path.suffix]), path
    elif path.suffix == ".json":
        json.loads(path.read_text())


def kept(folder: Path) -> dict[str, bytes | None]:
    """Files by name, with the bytes of those that are the same in every run."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(x in name for x in ("tensorboard/", ".lock")):
            same = path.suffix == ".parquet" or path.name in (WEIGHTS, MANIFEST)
            same = same or path.parent.name == "metrics"
            found[name] = path.read_bytes() if same else None
    return found
