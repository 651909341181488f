"""RecTools' SASRec or HSTU, run by the interpreter that has RecTools.

PYTHON -I benchmarks/rectools_side.py FOLDER

Imports nothing of this project. FOLDER holds what `rectools.py` put there:

    settings.json    kind: SASRecModel or HSTUModel; model: its arguments; accelerator: cpu, gpu,
                     mps; threads, seed, k, rounds (0: nothing is recommended), steps (of an
                     epoch, null: all)
    train.csv        user_id, item_id, datetime, weight: what may be learned from
    known.csv        the same columns: what is known when recommending, and is not recommended
    users.csv        user_id: whom to recommend to; datetime, where models may know it: when

and gets `lists.csv` (user_id, item_id, rank) and `result.json` (seconds of each epoch and of each
round of `recommend`, steps, versions). Standard output: `STEP done total` lines.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import rectools.models
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.dataset.context import get_context


class Clock(Callback):
    """Seconds of each epoch, loading of batches included; says how far it is."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0
        self.steps = 0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Starts the watch."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Reports."""
        self.steps += 1
        print("STEP", self.steps, trainer.num_training_batches * trainer.max_epochs, flush=True)

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stops the watch."""
        self.seconds.append(time.perf_counter() - self.started)


def main(folder: Path) -> None:
    """Trains, recommends, and leaves lists and seconds in `folder`."""
    settings = json.loads((folder / "settings.json").read_text())
    torch.set_num_threads(settings["threads"])
    seed_everything(settings["seed"])
    model = getattr(rectools.models, settings["kind"])(**settings["model"])
    # As the documentation of both models tells to bring a trainer of one's own. Its `deterministic`
    # stays off: on a CPU it would make the gradient of the item table run on one thread.
    model._trainer = Trainer(
        max_epochs=model.epochs,
        min_epochs=model.epochs,
        accelerator=settings["accelerator"],
        devices=1,
        limit_train_batches=settings["steps"],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=[Clock()],
    )
    model.fit(Dataset.construct(pd.read_csv(folder / "train.csv")))
    assert model.fit_trainer is not None
    clock = next(part for part in model.fit_trainer.callbacks if isinstance(part, Clock))
    seconds: list[float] = []
    if settings["rounds"]:
        lists, seconds = recommend(model, folder, settings)
        lists.to_csv(folder / "lists.csv", index=False)
    result = {
        "epoch_seconds": clock.seconds,
        "steps": clock.steps,
        "recommend_seconds": seconds,
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("rectools", "torch", "pytorch-lightning")},
        },
    }
    (folder / "result.json").write_text(json.dumps(result))


def recommend(
    model: Any, folder: Path, settings: dict[str, Any]
) -> tuple[pd.DataFrame, list[float]]:
    """Lists of k for every user, and the seconds of each round after one that is not kept."""
    known = Dataset.construct(pd.read_csv(folder / "known.csv"))
    asked = pd.read_csv(folder / "users.csv")
    context = get_context(asked) if "datetime" in asked else None
    seconds = []
    for _ in range(settings["rounds"] + 1):
        started = time.perf_counter()
        found = model.recommend(
            users=asked["user_id"].to_numpy(),
            dataset=known,
            k=settings["k"],
            filter_viewed=True,
            on_unsupported_targets="ignore",
            context=context,
        )
        seconds.append(time.perf_counter() - started)
    return found[["user_id", "item_id", "rank"]], seconds[1:]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
