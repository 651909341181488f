"""The contract every model passes: a checkerboard of tastes whose answers are known by thought.

Even users like even items, odd users like odd items. User u has every item of the own parity, in
the order u + 2, u + 4, ... around the catalogue, so that item u comes last: it is the test target,
and once seen items are filtered it is the only item of the user's parity that is left. The next
item is always two further, so models of order know the answer as well as models of sets.
(The idea is from the tests of the package `implicit`.)
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recsys.data.dataset import Dataset, write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.recommend import recommend
from recsys.model_protocols import ScoreModel, VectorModel

Model = ScoreModel | VectorModel
Fit = Callable[[Dataset, Histories], Model]
"""(the checkerboard, the rows to fit on) -> a model in evaluation mode; the same every time."""


def checkerboard(folder: Path, size: int = 20) -> Dataset:
    """`size` users by `size` items, `size` even. Ids of items say their parity; indices do not."""
    steps = 2 * np.arange(1, size // 2 + 1)
    items = (np.arange(size)[:, None] + steps[None, :]) % size
    users = np.repeat(np.arange(size), size // 2)
    frame = pl.DataFrame({"user_id": users, "item_id": items.ravel()})
    return write_dataset(folder, frame, name="checkerboard")


def check_model(fit: Fit, folder: Path, *, personal: bool = True) -> None:
    """Fits on the checkerboard and checks everything that is asked of a model.

    Args:
        fit: seeded; is called twice.
        folder: an empty place for the data set.
        personal: the model looks at the history, so it can know a user's parity.
    """
    board = checkerboard(folder / "checkerboard")
    split = make_split(board)
    rows = fit_histories(board, split, "train")
    model, again = fit(board, rows), fit(board, rows)
    held = held_out(board, split, "test")
    histories = held.histories(board, np.arange(board.num_users))
    _check_seen_items_stay_out(model, board, histories)
    _check_batches_do_not_matter(model, board, histories)
    _check_the_seed_decides(model, again, board, histories)
    if personal:
        _check_the_held_out_item_comes_first(model, board, histories, held.targets)
        for extras in (False, True):
            table = evaluate(
                model,
                board,
                split,
                protocol=PROTOCOLS["s3rec"],
                part="test",
                ks=(1,),
                options=EvaluationOptions(extras=extras),
            )
            assert table.value("recall", 1) == 1.0


def dense_scores(model: Model, histories: Histories) -> torch.Tensor:
    """Scores of the whole catalogue at full width."""
    with torch.inference_mode():
        if isinstance(model, VectorModel):
            scores = model.user_vectors(histories) @ model.item_vectors().T
            return scores.amax(1) if scores.dim() == 3 else scores  # the best of the interests
        return model.scores(histories)


def _check_the_held_out_item_comes_first(model, board, histories, targets):
    first = recommend(model, histories, board.num_items, k=1, filter_seen=True)[:, 0]
    np.testing.assert_array_equal(first, targets)


def _check_seen_items_stay_out(model, board, histories):
    k = board.num_items
    lists = recommend(model, histories, k, k=k, filter_seen=True)
    for row, listed in enumerate(lists):
        seen = histories.items[histories.offsets[row] : histories.offsets[row + 1]]
        listed = listed[listed >= 0].tolist()
        assert not set(listed) & set(seen.tolist())
        assert len(set(listed)) == len(listed) == k - len(set(seen.tolist()))
    everything = recommend(model, histories, k, k=k, filter_seen=False)
    assert (np.sort(everything, axis=1) == np.arange(k)).all()


def _check_batches_do_not_matter(model, board, histories):
    together = dense_scores(model, histories)
    assert together.shape == (len(histories), board.num_items)
    for row in range(len(histories)):
        alone = dense_scores(model, histories.rows(np.array([row])))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def _check_the_seed_decides(model, again, board, histories):
    first, second = (dense_scores(each, histories) for each in (model, again))
    assert torch.equal(first, second)
