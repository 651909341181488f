"""Old and new vectors together: what stands still, and the figures of all four pairs."""

import numpy as np
import polars as pl
import pytest
import torch

import recsys
from recsys.data.dataset import Dataset
from recsys.errors import ConfigError, ProtocolError
from recsys.evaluation.held_out import held_out
from recsys.recipes.training.train import train
from recsys.recipes.updating.crossing import Known, cross
from recsys.recipes.updating.holding import Anchor
from recsys.recipes.updating.update import update
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from tests.recipes.updating.test_update import config, walks, with_text


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("compatible")


@pytest.fixture(scope="module")
def old(place):
    rows = walks(np.arange(60), 20, 0, 100)
    return with_text(Dataset.from_frame(rows, time="timestamp", out=place / "old"))


@pytest.fixture(scope="module")
def new(place, old):
    rows = walks(np.r_[0:20, 60:70], 25, 1, 200)
    return with_text(
        Dataset.from_frame(rows, time="timestamp", like=old, append=True, out=place / "new")
    )


@pytest.fixture(scope="module")
def runs(place, old, new):
    """`runs(name)`: a run and its compatible update."""
    made = {}

    def of(name):
        if name not in made:
            run = train(config(old, name), out=place / name)
            faster = ["trainer.epochs=3", "trainer.optimizer.learning_rate=0.05"]
            made[name] = run, update(run, new, faster, out=place / f"{name}-on", compatible=True)
        return made[name]

    return of


@pytest.mark.parametrize("name", ["sasrec", "fmrlrec", "two_tower", "content"])
def test_vectors_of_trained_items_stand_still_to_the_bit_and_new_ones_move(name, runs, old):
    before, now = (load_run(run) for run in runs(name))
    one, other = (run.model.item_vectors().detach() for run in (before, now))
    split = before.split
    trained = np.unique(
        np.concatenate(
            [before.dataset.items[a:b] for a, b in zip(split.start, split.train_end, strict=True)]
        )
    )
    assert len(trained) == old.num_items
    assert torch.equal(one, other[: len(one)])
    moved = {
        key
        for key, tensor in before.model.state_dict().items()
        if not torch.equal(tensor, now.model.state_dict()[key][: len(tensor)] if tensor.dim() else
                           now.model.state_dict()[key])
    }  # fmt: skip
    assert moved  # the side of the users has learned


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_stand_still_with_momentum_and_sparse_gradients(sparse, place, old, new):
    tree = config(old).model_dump(mode="json")
    tree["model"]["sparse_gradients"] = sparse
    run = train(RunConfig.model_validate(tree), out=place / f"sparse-{sparse}")
    on = update(run, new, out=place / f"sparse-{sparse}-on", compatible=True)
    rows = [load_run(each).model.table.weight.detach() for each in (run, on)]
    assert torch.equal(rows[0], rows[1][: old.num_items])
    started = update(
        run, new, ["trainer.optimizer.learning_rate=1e-30", "trainer.epochs=1"],
        out=place / f"sparse-{sparse}-start", compatible=True,
    )  # fmt: skip
    assert not torch.equal(load_run(started).model.table.weight[20:], rows[1][20:])


def test_the_old_index_and_new_users_give_what_the_new_index_gives_of_shared_items(runs):
    found = recsys.compatibility(*runs("sasrec"))
    shared = found.rows.filter(catalogue="shared")
    for size in (4, 8):
        by = {(r["users"], r["items"]): r for r in shared.filter(granularity=size).to_dicts()}
        assert by["new", "old"]["ndcg@10"] == by["new", "new"]["ndcg@10"]
        assert by["new", "old"]["kept"] == 1.0
        assert by["new", "new"]["same"] < by["old", "old"]["same"] <= 10
        assert by["old", "new"]["ndcg@10"] == by["old", "old"]["ndcg@10"]
    # Over all items the same lists of the old index are held against more targets.
    old_index = found.rows.filter(items="old", users="new")
    values = [old_index.filter(catalogue=name)["ndcg@10"] for name in ("all", "shared")]
    assert found.missing > 0 and (values[0] < values[1]).all()


def test_figures_of_new_x_new_are_the_evaluators(runs, new):
    old, on = runs("sasrec")
    found = recsys.compatibility(old, on).rows
    loaded = load_run(on)
    # The evaluator measures everyone; the old run knows all of these users' items but the new ones.
    table = recsys.evaluate(on, part="valid").rows
    held = held_out(new, loaded.split, "valid")
    known = recsys.compatibility(old, on).num_users
    if known == len(held.users):
        for size in (4, 8):
            wanted = (pl.col("metric") == "ndcg") & (pl.col("k") == 10)
            wanted &= (pl.col("segment") == "all") & (pl.col("granularity") == size)
            mine = found.filter(users="new", items="new", catalogue="all", granularity=size)
            assert mine["ndcg@10"][0] == pytest.approx(table.filter(wanted)["value"][0], abs=1e-12)
    assert known == len(held.users)


def test_a_run_crossed_with_itself_keeps_everything(runs, old):
    run, _ = runs("two_tower")
    loaded = load_run(run)
    held = held_out(old, loaded.split, "valid")
    known = Known(old.num_items, old.num_users)
    found = cross((loaded.model, loaded.model), known, old, held, filter_seen=True)
    assert (found.rows["kept"] == 1).all() and (found.rows["same"] == 10).all()
    assert found.missing == found.left_out == 0


def test_users_of_whom_the_old_run_knows_nothing_are_left_out_and_counted(runs):
    found = recsys.compatibility(*runs("two_tower"))
    assert found.left_out == 10 and found.num_users == 60


def test_an_anchor_draws_vectors_to_where_they_were(place, old, new, runs):
    run, _ = runs("sasrec")
    one = load_run(run).model.item_vectors().detach()
    cosines = {}
    for name, more in {"free": [], "drawn": ["update.hold=anchor", "update.anchor=100"]}.items():
        fast = ["trainer.optimizer.learning_rate=0.02", "trainer.epochs=3", *more]
        on = update(run, new, fast, out=place / f"anchor-{name}")
        other = load_run(on).model.item_vectors().detach()[: len(one)]
        cosines[name] = float(torch.nn.functional.cosine_similarity(one, other, dim=1).mean())
    assert cosines["free"] < cosines["drawn"] - 0.02 and cosines["drawn"] > 0.95


def test_the_penalty_of_an_anchor_is_the_mean_over_prefixes():
    from recsys.granularity import Granularities

    old = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    now = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    anchor = Anchor(
        lambda rows: now[rows], torch.tensor([0]), old, Granularities(sizes=(2, 4)), 3.0
    )
    assert float(anchor.penalty()) == pytest.approx(3.0 * (0 + 1 - 0.5**0.5) / 2)
    assert anchor.eval().penalty() is None and anchor.state_dict() == {}


def test_what_cannot_be_held_is_refused(place, old, new, runs):
    hashed = train(config(old, "hashed"), out=place / "hashed")
    with pytest.raises(ConfigError, match=r"rows of this model\.table are shared between items"):
        update(hashed, new, out=place / "never", compatible=True)
    decayed = ["trainer.optimizer.table_weight_decay=0.1"]
    with pytest.raises(ConfigError, match="draws all rows to zero"):
        update(runs("sasrec")[0], new, decayed, out=place / "never", compatible=True)
    with pytest.raises(ConfigError, match=r"is the weight of update\.hold: anchor"):
        update(runs("sasrec")[0], new, ["update.anchor=2"], out=place / "never")
    with pytest.raises(ConfigError, match="--compatible holds items"):
        update(runs("sasrec")[0], new, ["update.hold=nothing"], out=place / "x", compatible=True)
    assert not (place / "never").exists()


def test_fitted_on_all_rows_only_the_lists_are_compared(place, old, new):
    run = train(config(old, fit_on="all"), out=place / "all")
    on = update(run, new, out=place / "all-on", compatible=True)
    found = recsys.compatibility(run, on).rows
    assert found["ndcg@10"].null_count() == found["kept"].null_count() == len(found)
    assert found["same"].is_not_null().all()
    with pytest.raises(ProtocolError, match="would be validated on what it has seen"):
        update(run, new, ["fit_on=train"], out=place / "never")
