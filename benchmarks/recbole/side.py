"""RecBole's LightGCN, run by the interpreter that has RecBole.

PYTHON -I benchmarks/recbole/side.py FOLDER

Imports nothing of this project. FOLDER holds what `compare.py` put there:

    settings.json      config: parameters of RecBole; threads
    data/data.inter    user_id, item_id: what may be learned from, as an atomic file of RecBole

and gets `user_indices.npy`, `user_vectors.npy`, the same of items, and `result.json` (seconds of
each epoch and of everything between reading the data and the end of training, steps, versions).
Standard output: `STEP done total` lines.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

# numpy 2 has none of these names, and RecBole's Config makes aliases of them.
for _name, _kind in {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
}.items():
    if _name not in np.__dict__:
        setattr(np, _name, _kind)
# scipy 1.13 took `_update` away, by which RecBole fills the adjacency matrix of LightGCN.
if not hasattr(scipy.sparse.dok_matrix, "_update"):
    scipy.sparse.dok_matrix._update = (  # type: ignore[attr-defined]
        lambda matrix, cells: matrix._dict.update(cells)
    )

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.utils import create_samplers, get_dataloader  # noqa: E402
from recbole.model.general_recommender import LightGCN  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402


class Told:
    """The batches of an epoch, told one by one on standard output."""

    def __init__(self, batches: Any, done: int, total: int) -> None:
        self.batches, self.done, self.total = batches, done, total

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield batch
            self.done += 1
            print("STEP", self.done, self.total, flush=True)


class TimedTrainer(Trainer):  # type: ignore[misc]
    """RecBole's trainer, which notes the seconds of each epoch, loading of batches included."""

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.seconds: list[float] = []

    def _train_epoch(self, train_data: Any, epoch_idx: int, *given: Any, **named: Any) -> Any:
        number = len(train_data)
        told = Told(train_data, epoch_idx * number, self.epochs * number)
        started = time.perf_counter()
        loss = super()._train_epoch(told, epoch_idx, *given, **named)
        self.seconds.append(time.perf_counter() - started)
        return loss


def main(folder: Path) -> None:
    """Trains, and leaves vectors and seconds in `folder`."""
    settings = json.loads((folder / "settings.json").read_text())
    torch.set_num_threads(settings["threads"])
    os.chdir(folder)  # RecBole leaves a log folder where it is started
    started = time.perf_counter()
    given = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id"]},
        # Everything is to be learned from.
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": "none"},
        "use_gpu": False,
        "show_progress": False,
    }
    config = Config(model=LightGCN, dataset="data", config_dict=given | settings["config"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    built = dataset.build()
    samplers = create_samplers(config, dataset, built)
    batches = get_dataloader(config, "train")(config, built[0], samplers[0], shuffle=True)
    model = LightGCN(config, batches.dataset).to(config["device"])
    trainer = TimedTrainer(config, model)
    trainer.fit(batches, valid_data=None, saved=False, verbose=False)
    taken = time.perf_counter() - started
    save_vectors(model, dataset, folder)
    result = {
        "epoch_seconds": trainer.seconds,
        "seconds": taken,
        "steps": len(trainer.seconds) * len(batches),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("recbole", "torch", "numpy", "scipy")},
        },
    }
    (folder / "result.json").write_text(json.dumps(result))


@torch.no_grad()
def save_vectors(model: Any, dataset: Any, folder: Path) -> None:
    """The means of all layers, of users and items, with the indices that they are of."""
    model.eval()
    fields = {"user": dataset.uid_field, "item": dataset.iid_field}
    for (kind, field), vectors in zip(fields.items(), model(), strict=True):
        names = dataset.field2id_token[field][1:]  # the first row is none's
        np.save(folder / f"{kind}_indices.npy", np.array([int(name) for name in names]))
        np.save(folder / f"{kind}_vectors.npy", vectors[1:].numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
