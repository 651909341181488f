"""Cost of a cut model and of its full model: bytes, multiplications, time.

Untrained models, cut by `recsys.recipes.training.cut`; 12,101 items, histories of Beauty's
length. The arithmetic counts the multiplications of the encoder's matrix products; what does not
shrink with the width (softmax of attention scores, reading histories) is what the clock shows
beyond it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Row, in_turns
from benchmarks.steps import NUM_ITEMS, SIX, granularities, random_batch
from recsys.data.features.loading import ItemFeatures, VectorFeature
from recsys.data.histories import Histories
from recsys.layers.transformer import TransformerConfig
from recsys.losses.softmax import Negatives
from recsys.models import FMRLRec, FMRLRecConfig, SASRec, SASRecConfig
from recsys.recipes.training.cut import cut_weights
from recsys.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

Nested = SASRec | FMRLRec


def transformer(sizes: tuple[int, ...]) -> SASRec:
    """As the Beauty config, nested."""
    config = SASRecConfig(
        granularities=granularities(sizes), encoder=TransformerConfig(nested=True)
    )
    return SASRec(config, NUM_ITEMS)


def recurrence(sizes: tuple[int, ...]) -> FMRLRec:
    """Texts of 384 coordinates."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(NUM_ITEMS, 384)).astype(np.float16)
    text = VectorFeature(vectors, np.ones(NUM_ITEMS, bool))
    features = ItemFeatures(NUM_ITEMS, {"text": text}, {}, {}, "")
    config = FMRLRecConfig(granularities=granularities(sizes), features=("text",))
    return FMRLRec(config, NUM_ITEMS, features=features)


def cut_models(build: Callable[[tuple[int, ...]], Nested]) -> dict[int, Nested]:
    """The whole model and every one inside it, by width."""
    torch.manual_seed(0)
    models = {size: build(tuple(s for s in SIX if s <= size)) for size in SIX}
    for small in models.values():
        cut_weights(models[SIX[-1]], small)
    return models


def stepper(model: Nested) -> Callable[[], None]:
    """A training step on 512 negatives."""
    optimizer, batch = build_optimizer(model, OptimizerConfig()), random_batch(NUM_ITEMS)
    chosen = np.unique(np.random.default_rng(1).integers(0, NUM_ITEMS, 512))
    sample = Negatives(torch.from_numpy(chosen), torch.zeros(len(chosen)))

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        model.loss(batch, sample).total.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()

    return step


def reader(model: Nested, histories: Histories) -> Callable[[], None]:
    """Vectors of the users of a batch."""

    def read() -> None:
        model.eval()
        with torch.inference_mode():
            model.user_vectors(histories)

    return read


def measure(rounds: int) -> dict[str, list[Row]]:
    """One table for each model; ratios are to the whole model, of the medians round by round."""
    builders: dict[str, Callable[[tuple[int, ...]], Nested]] = {
        "nested transformer": transformer,
        "fMRLRec": recurrence,
    }
    return {f"{name}, cut": _table(cut_models(build), rounds) for name, build in builders.items()}


def _table(models: dict[int, Nested], rounds: int) -> list[Row]:
    histories = random_batch(NUM_ITEMS, num_users=1024).histories
    sizes = {
        size: sum(t.numel() for t in model.state_dict().values()) for size, model in models.items()
    }
    products = {size: _products(model, histories) for size, model in models.items()}
    readers = {str(size): reader(model, histories) for size, model in models.items()}
    steppers = {str(size): stepper(model) for size, model in models.items()}
    read, stepped = in_turns(readers, rounds), in_turns(steppers, rounds)
    full = SIX[-1]
    return [
        {
            "width": size,
            "MB": 4e-6 * sizes[size],
            "MB, share": sizes[size] / sizes[full],
            "multiplications, share": products[size] / products[full],
            "users, share of time": _share(read, size),
            "users, ms": 1e3 * float(np.median(read[str(size)])),
            "step, share of time": _share(stepped, size),
            "step, ms": 1e3 * float(np.median(stepped[str(size)])),
        }
        for size in models
    ]


def _products(model: Nested, histories: Histories) -> int:
    with FlopCounterMode(display=False) as counted:
        reader(model, histories)()
    return int(counted.get_total_flops())


def _share(times: dict[str, list[float]], size: int) -> float:
    pairs = zip(times[str(size)], times[str(SIX[-1])], strict=True)
    return float(np.median([a / b for a, b in pairs]))
