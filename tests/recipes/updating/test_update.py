"""`recsys update`: a run goes on, every index stays, and what is written is an ordinary run."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import Dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.user_columns import user_features
from recsys.data.features.writing import write_vectors
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.models.pairs.feature_towers import FeatureTowers, FeatureTowersConfig
from recsys.recipes.training.train import train
from recsys.recipes.updating.growing import Growth, grow_moments, grow_weights
from recsys.recipes.updating.start import ROWS
from recsys.recipes.updating.update import update, update_config
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.runs.records import load_config, load_run_info
from recsys.training.checkpoint import WEIGHTS

SMALL = {"granularities": {"sizes": [4, 8]}, "history_length": 8}
MODELS = {
    "sasrec": SMALL,
    "fmrlrec": {"name": "fmrlrec", "features": [], "ids": True, **SMALL},
    "two_tower": {"name": "two_tower", **SMALL},
    "hashed": {"table": {"name": "hashed", "share": 0.5}, **SMALL},
    "content": {"items": {"features": ["text"]}, **SMALL},
}


def walks(users, items, seed, first):
    """Users who walk along a ring of items, eight steps each."""
    rng = np.random.default_rng(seed)
    starts = np.repeat(rng.integers(0, items, len(users)), 8)
    return pl.DataFrame(
        {
            "user_id": np.repeat(users, 8),
            "item_id": (starts + np.tile(np.arange(8), len(users))) % items,
            "timestamp": first + np.tile(np.arange(8), len(users)),
        }
    )


def with_text(dataset):
    """Vectors that are the item id's own, whatever its index."""
    rows = [np.random.default_rng(int(i)).normal(size=6) for i in dataset.item_frame()["item_id"]]
    every = np.ones(dataset.num_items, bool)
    write_vectors(dataset.folder, "text", np.array(rows), every, FeatureOrigin(source="by hand"))
    return dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("update")


@pytest.fixture(scope="module")
def old(place):
    rows = walks(np.arange(60), 20, 0, 100)
    return with_text(Dataset.from_frame(rows, time="timestamp", out=place / "old"))


@pytest.fixture(scope="module")
def new(place, old):
    """Twenty old users go on, ten come, and five items with them."""
    rows = walks(np.r_[0:20, 60:70], 25, 1, 200)
    return with_text(
        Dataset.from_frame(rows, time="timestamp", like=old, append=True, out=place / "new")
    )


def config(data, model="sasrec", **changes):
    trainer = {"epochs": 3, "optimizer": {"learning_rate": 0.01, "warmup_steps": 5}}
    tree = {"data": str(data.folder), "threads": 1, "model": MODELS[model], "trainer": trainer}
    return RunConfig.model_validate({**tree, "batching": {"batch_tokens": 64}, **changes})


@pytest.fixture(scope="module")
def trained(place, old):
    """`trained(name)`: the run of a model on the old data, trained once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = train(config(old, name), out=place / f"run-{name}")
        return made[name]

    return of


def started_only(run, data, out, *overrides, **options):
    """An update that is ended before its first step has moved anything."""
    lowest = "trainer.optimizer.learning_rate=1e-30"
    return update(run, data, [lowest, "trainer.epochs=1", *overrides], out=out, **options)


@pytest.mark.parametrize("name", MODELS)
def test_rows_and_moments_go_on_and_new_rows_come_after(name, trained, old, new, tmp_path):
    run = trained(name)
    folder = started_only(run, new, tmp_path / "on")
    before, now = load_run(run), load_run(folder)
    known = slice(0, old.num_items)
    assert torch.allclose(
        now.model.item_vectors()[known], before.model.item_vectors(), rtol=1e-5, atol=1e-7
    )
    assert len(now.model.item_vectors()) == new.num_items > old.num_items
    told = load_run_info(folder)
    assert told["update"]["moments"] and told["parent"]["run"] == str(run.resolve())
    assert told["parent"]["weights"] == update_config(run, new).update.weights
    optimizer = [
        load_file(next((place / "checkpoints").glob("step-*")) / "optimizer.safetensors")
        for place in (run, folder)
    ]
    for key, tensor in optimizer[0].items():
        if key.startswith("step/"):
            assert optimizer[1][key] > tensor
    if name == "two_tower":
        assert told["update"]["started"]["users"] == 10
        rows = now.model.user_table.weight.detach().norm(dim=1)
        assert torch.allclose(rows[60:], rows[:60].mean().expand(10), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("sasrec", [], {"neighbours": 5, "random": 0}),
        ("sasrec", ["update.neighbours=0"], {"neighbours": 0, "random": 5}),
        ("content", [], {"content": 5}),
        ("hashed", [], {"shared": 5}),
    ],
)
def test_what_new_items_start_from_is_told(name, overrides, expected, trained, new, tmp_path):
    told = load_run_info(started_only(trained(name), new, tmp_path / "on", *overrides))
    found = told["update"]["started"]
    assert {key: found[key] for key in expected} == expected


def test_a_new_item_starts_as_the_mean_of_its_neighbours(trained, old, new, tmp_path):
    folder = started_only(trained("sasrec"), new, tmp_path / "on", "update.neighbours=1")
    rows = load_run(folder).model.table.weight.detach()
    ids = new.item_frame()["item_id"].to_list()
    split = load_run(folder).split
    item, sums = ids.index(20), torch.zeros(8)  # 19 stands before it; 21 is new itself
    for user in range(new.num_users):
        items = new.items[split.start[user] : split.train_end[user]]
        for place in np.flatnonzero(items == item):
            near = [p for p in (place - 1, place + 1) if 0 <= p < len(items)]
            sums += sum((rows[items[p]] for p in near if items[p] < old.num_items), torch.zeros(8))
    cosine = torch.nn.functional.cosine_similarity(rows[item], sums, dim=0)
    assert sums.norm() > 0 and cosine > 0.9999
    usual = rows[: old.num_items].norm(dim=1).mean()
    assert torch.isclose(rows[item].norm(), usual, rtol=1e-3)


def test_only_what_is_new_and_a_replay_is_trained(trained, new, tmp_path):
    epochs = {}
    for replay in (0, 0.3):
        out = tmp_path / str(replay)
        folder = started_only(trained("sasrec"), new, out, f"update.replay={replay}")
        epochs[replay] = load_run_info(folder)["update"]["epoch"]
    assert epochs[0]["replayed"] == 0
    fresh = epochs[0]["new"] + epochs[0]["beside"]
    assert epochs[0.3]["replayed"] == int(fresh * 3 / 7) and epochs[0]["whole"] == fresh + 200
    # Twenty users go on with eight rows each, of which two are held out, and two that were are not:
    # their windows hold eight targets. Ten users come with six rows, five targets.
    assert epochs[0]["new"] == 20 * 8 + 10 * 5 and epochs[0]["beside"] == 0


def test_an_update_learns_what_is_new(trained, new, tmp_path):
    folder = update(trained("sasrec"), new, ["trainer.epochs=6"], out=tmp_path / "on")
    values = recsys.evaluate(folder, part="valid").rows
    stale = started_only(trained("sasrec"), new, tmp_path / "stale")
    before = recsys.evaluate(stale, part="valid").rows
    wanted = (pl.col("metric") == "ndcg") & (pl.col("k") == 10) & (pl.col("segment") == "all")
    one, other = (
        x.filter(wanted, pl.col("granularity") == 8)["value"][0] for x in (values, before)
    )
    assert one > other + 0.02


def test_an_updated_run_is_evaluated_exported_resumed_and_updated_again(
    trained, old, new, tmp_path
):
    folder = update(trained("sasrec"), new, out=tmp_path / "on")
    assert recsys.evaluate(folder).rows.height
    recsys.export(folder, tmp_path / "bundle", tiers="0:4:fp32:ram,4:8:fp32:mmap")
    assert len(recsys.load(tmp_path / "bundle").items) == new.num_items
    third = Dataset.from_frame(
        walks(np.arange(60, 75), 27, 2, 300), time="timestamp", like=new, append=True
    )
    again = update(folder, third, out=tmp_path / "again")
    assert load_run_info(again)["parent"]["run"] == str(folder.resolve())
    first = load_run(again).dataset.item_frame()["item_id"].head(old.num_items)
    assert first.to_list() == old.item_frame()["item_id"].to_list()
    more = config_with_epochs(folder, 4)
    shutil.rmtree(tmp_path / "again")
    train(more, out=folder, resume=True)
    assert load_run_info(folder)["state"] == "finished" and load_config(folder).trainer.epochs == 4


def config_with_epochs(folder, epochs):
    before = load_config(folder)
    trainer = before.trainer.model_copy(update={"epochs": epochs})
    return before.model_copy(update={"trainer": trainer})


def test_a_stopped_update_goes_on_without_its_parent_to_the_same_bits(trained, old, new, tmp_path):
    run = shutil.copytree(trained("sasrec"), tmp_path / "parent")
    whole = update(run, new, out=tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(moment):
        if moment.step == 3:
            raise KilledError

    killed = ["trainer.checkpoint_seconds=0"]
    with pytest.raises(KilledError):
        update(run, new, killed, out=tmp_path / "killed", callback=kill)
    assert load_run_info(tmp_path / "killed")["state"] == "started"
    assert (tmp_path / "killed" / ROWS).is_file()
    with pytest.raises(ConfigError, match=r"update\.replay: 0\.3 -> 0\.5"):
        update(run, new, [*killed, "update.replay=0.5"], out=tmp_path / "killed", resume=True)
    with pytest.raises(RunError, match=r"is a run that was updated from .*parent, not from"):
        update(trained("sasrec"), new, killed, out=tmp_path / "killed", resume=True)
    shutil.rmtree(run)
    update(run, new, killed, out=tmp_path / "killed", resume=True)
    assert (tmp_path / "killed" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_data_of_other_indices_is_refused_and_nothing_is_left(trained, old, new, tmp_path):
    other = Dataset.from_frame(walks(np.arange(70), 25, 5, 100)[::-1], time="timestamp")
    swapped = old.item_frame()["item_id"].to_list() != other.item_frame()["item_id"].to_list()[:20]
    assert swapped
    with pytest.raises(RunError, match=r"item \d+ is '\d+' in the data of .*prepare the data with"):
        update(trained("sasrec"), other, out=tmp_path / "on")
    with pytest.raises(RunError, match="nothing new to train on"):
        update(trained("sasrec"), old, out=tmp_path / "on")
    assert not (tmp_path / "on").exists()


def test_rows_that_would_be_held_out_after_they_were_trained_are_refused(trained, old, tmp_path):
    rows = old.user_frame()["user_id"].to_list()
    owners = np.repeat(rows, 8)
    items = old.item_frame()["item_id"].to_numpy()[old.items]
    kept = pl.DataFrame({"user_id": owners, "item_id": items, "timestamp": old.timestamps}).filter(
        pl.col("timestamp") < 106
    )  # the held-out rows are gone
    data = Dataset.from_frame(kept, time="timestamp", like=old)
    with pytest.raises(ProtocolError, match=r"120 rows that .* holds out were trained on"):
        update(trained("sasrec"), data, out=tmp_path / "on")


@pytest.mark.parametrize(
    "table",
    [
        {"name": "low_rank", "share": 0.9},
        {"name": "quantized", "share": 1.0},
        {"name": "tensor_train", "share": 0.9},
        {"name": "hashed", "method": "quotient_remainder", "share": 0.9},
    ],
)
def test_tables_that_cannot_grow_are_refused_by_name(table, old, new, tmp_path):
    tree = config(old).model_dump(mode="json")
    tree["model"]["table"] = table
    tree["trainer"]["epochs"] = 1
    run = train(RunConfig.model_validate(tree), out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model\.table is \w+, whose rows are laid out for 20"):
        update(run, new, out=tmp_path / "on")
    assert not (tmp_path / "on").exists()
    known = Dataset.from_frame(
        walks(np.arange(20), 20, 3, 200), time="timestamp", like=old, append=True
    )
    before = load_run(run).model.item_vectors()
    on = started_only(run, known, tmp_path / "on")
    assert torch.allclose(load_run(on).model.item_vectors(), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("table", [{"name": "mapped"}, {"name": "dynamic"}])
def test_tables_that_keep_their_moments_themselves_are_refused(table, old, new, tmp_path):
    tree = config(old).model_dump(mode="json")
    tree["model"]["table"] = table
    tree["trainer"]["epochs"] = 1
    run = train(RunConfig.model_validate(tree), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="keeps rows and moments itself"):
        update(run, new, out=tmp_path / "on")


def test_a_cut_in_time_moves_on_with_the_data(old, new, tmp_path):
    run = train(config(old, protocol="global-time"), out=tmp_path / "run")
    folder = update(run, new, out=tmp_path / "on")
    told = load_run_info(folder)["update"]
    assert 0 < told["epoch"]["new"] < told["rows"]["new"]
    assert recsys.evaluate(folder, part="valid").rows.height


def test_options_of_the_model_stay(trained, new, tmp_path):
    with pytest.raises(ConfigError, match=r"weights cannot go on"):
        update(trained("sasrec"), new, ["model.history_length=9"], out=tmp_path / "on")
    assert not (tmp_path / "on").exists()


def test_a_frame_of_new_rows_is_enough(old, tmp_path):
    model = recsys.fit(old, "sasrec", ["model.granularities.sizes=[4, 8]", "threads=1"], epochs=1)
    rows = walks(np.arange(60, 70), 25, 1, 200)
    after = model.update(rows, out=tmp_path / "on")
    assert after.items.head(old.num_items).to_list() == model.items.to_list()
    assert len(after.users) == 70 and len(after.items) == 25
    assert after.recommend([65], k=3).height == 3
    assert recsys.load(tmp_path / "on").recommend([65], k=3).height == 3
    with pytest.raises(ConfigError, match="is not a trained run"):
        recsys.load("popularity", data=old.folder).update(rows)


def test_the_command_updates_and_says_what_was_new(trained, new, tmp_path):
    command = ["update", str(trained("sasrec")), str(new.folder), "--out", str(tmp_path / "on")]
    found = CliRunner().invoke(app, [*command, "--compatible", "trainer.epochs=1"])
    assert found.exit_code == 0, found.output
    assert "new x old" in found.output and "updated: " in found.output
    told = json.loads((tmp_path / "on" / "compatibility.json").read_text())
    assert {row["granularity"] for row in told["rows"]} == {4, 8}


def towers(clubs):
    """Users of one column alone, with weights that tell the categories apart."""
    tree = {"columns": {"categories": ["club"], "min_count": 1}, "history": False}
    config = FeatureTowersConfig.model_validate(tree | {"granularities": {"sizes": [2, 4]}})
    features = user_features(pl.DataFrame({"club": clubs}), config.columns, "a test")
    return FeatureTowers(config, 5, user_features=features).eval()


def test_categories_go_on_by_their_names_whatever_their_order():
    """Names stand in the order of the first users who have them, and a user may change."""
    old, new = towers(["a", "b", "c", "c"]), towers(["c", "b", "new", "a", "c"])
    growth = Growth((5, 5), (4, 5))
    fresh = new.columns.encode(torch.tensor([2]))
    grow_weights(old, new, growth)
    before, after = (each.columns.encode(torch.arange(4)) for each in (old, new))
    torch.testing.assert_close(after[[3, 1, 0]], before[[0, 1, 2]])
    torch.testing.assert_close(after[2:3], fresh)
    name = "columns.modalities.club.weight"
    moments = {f"exp_avg/{name}": torch.arange(12.0).view(3, 4), f"step/{name}": torch.tensor(7.0)}
    grown = grow_moments(moments, old, new, growth)
    assert grown[f"exp_avg/{name}"][:, 0].tolist() == [8, 4, 0, 0]
    assert grown[f"step/{name}"] == 7
