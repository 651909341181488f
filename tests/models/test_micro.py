"""MiCRO: what its vectors are, that time moves them, and what an update keeps."""

import numpy as np
import polars as pl
import pytest
import torch

import recsys
from recsys.config import parse
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import ConfigError
from recsys.evaluation.held_out import held_out
from recsys.models import MiCRO, MiCROConfig
from recsys.recipes.training.cut import cut
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.runs.records import load_run_info
from recsys.serving.user_tower import UserTower
from tests.contract import check_model, checkerboard

SIZES = (4, 8)
DAY = 86_400
NEWS, FIRST_DAY = 40, 10**9


def settings(data, **changes):
    tree = {
        "data": str(data),
        "threads": 1,
        "logs": [],
        "model": {"name": "micro", "granularities": {"sizes": list(SIZES)}},
        "trainer": {"epochs": 1},
    }
    model = {**tree["model"], **changes.pop("model", {})}
    return RunConfig.model_validate({**tree, **changes, "model": model})


def rows_of(lists, times=None):
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
    stamps = None if times is None else np.concatenate(times).astype(np.int64)
    items = np.concatenate(lists).astype(np.int32)
    return Histories(np.arange(len(lists)), items, offsets, stamps)


def solved(rows, num_items=20, **options):
    torch.manual_seed(0)
    config = MiCROConfig.model_validate({"granularities": {"sizes": SIZES}, **options})
    model = MiCRO(config, num_items).eval()
    assert len(list(model.solve(rows))) == 1
    return model


def drawn():
    """30 users, the first 18 of 20 items, half a year."""
    rng = np.random.default_rng(0)
    lists = [rng.permutation(18)[: rng.integers(3, 9)] for _ in range(30)]
    return lists, [np.sort(rng.integers(0, 180 * DAY, len(each))) for each in lists]


def test_it_passes_the_checkerboard(tmp_path):
    board, counter = checkerboard(tmp_path / "board"), iter(range(9))

    def fit(_board, _rows):
        out = tmp_path / f"run{next(counter)}"
        return load_run(recsys.train(settings(board.folder), out=out)).model

    check_model(fit, tmp_path)


@pytest.mark.parametrize("timed", [True, False])
def test_scores_are_those_of_the_formulas_written_out(timed):
    lists, times = drawn()
    options = {"half_life_days": 20.0, "half_life_rows": 3.0, "lasting": 0.2}
    options |= {"popularity": 0.7, "background": 0.3}
    rows = rows_of(lists, times if timed else None)
    model = solved(rows, **options)
    interest_of = model.interest_of.numpy()
    assert (interest_of[18:] == -1).all() and (interest_of[:18] >= 0).all()
    newest = max(each.max() for each in times)
    order = [0.5 ** ((len(each) - 1 - np.arange(len(each))) / 3) for each in lists]
    ages = [(newest - each) / DAY for each in times]
    decay = [0.5 ** (each / 20) for each in ages] if timed else order
    totals = np.zeros(20)
    found = [np.zeros((20, 3)), np.zeros((20, 4))]
    for user, had in enumerate(lists):
        np.add.at(totals, had, 0.2 + 0.8 * decay[user])
        for block, sums in enumerate(found):
            share = np.zeros(sums.shape[1])
            np.add.at(share, interest_of[had, block], order[user])
            np.add.at(sums, had, np.outer(0.2 + 0.8 * decay[user], share / share.sum()))
    relative = totals / totals[totals > 0].mean()
    whole, known = [], totals > 0
    for sums in found:
        usual = sums.sum(0) / sums.sum()
        lift = sums / np.where(known, totals, 1)[:, None] - np.where(known[:, None], usual, 0)
        whole.append(lift / np.sqrt(usual))
    users, items = model.user_vectors(rows), model.item_vectors()
    for size, lifts in zip(SIZES, (whole[0], np.hstack(whole)), strict=True):
        of_items = relative[:, None] ** 0.7 * np.where(known, 1, 0)[:, None]
        kernel = (0.3 + lifts @ lifts.T) * of_items.T
        wanted = np.stack([order[u] @ kernel[had] for u, had in enumerate(lists)])
        scores = (users[:, :size] @ items[:, :size].T).numpy() * 4
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)


def test_a_guest_without_known_items_and_an_item_that_nobody_had_are_zeros():
    lists, times = drawn()
    model = solved(rows_of(lists, times))
    assert not model.item_vectors()[18:].any()
    assert not model.user_vectors(rows_of([[18, 19]])).any()
    assert torch.isfinite(model.user_vectors(rows_of([[18, 3]]))).all()


def test_more_interests_than_items_leave_coordinates_at_zero():
    model = solved(rows_of([[0, 1], [1, 2], [2, 0]]), num_items=3, granularities={"sizes": [2, 16]})
    assert torch.isfinite(model.items).all() and not model.items[:, 5:].any()


@pytest.mark.parametrize("popularity", [0.0, 0.85, 1.5])
def test_items_of_any_age_keep_a_vector(popularity):
    lists, times = drawn()
    rows = rows_of(lists, times)
    short = {"half_life_days": 1e-3, "half_life_rows": 1e-3, "lasting": 0.0}
    model = solved(rows, popularity=popularity, **short)
    assert torch.isfinite(model.items).all() and (model.items[:18, 0] > 0).all()
    users = model.user_vectors(rows)
    assert torch.isfinite(users).all() and users.any(1).all()
    old = rows_of([[3, *[19] * 300]])  # what came later is known to nobody
    assert model.user_vectors(old).any()
    vectors = model.items[torch.tensor(old.items)][None]
    tower = model.user_tower()(vectors, torch.tensor(old.lengths))
    torch.testing.assert_close(tower, model.user_vectors(old))


def test_ages_count_from_the_last_row_whenever_that_was():
    lists, times = drawn()
    before_1970 = [each - 1000 * DAY for each in times]
    one, other = solved(rows_of(lists, times)), solved(rows_of(lists, before_1970))
    assert torch.equal(one.items, other.items)


def news(days):
    """Each day brings four items, two for each of two tastes, that are had for three days."""
    rng = np.random.default_rng(0)
    place = np.tile(np.arange(30), len(days))
    day = np.repeat(days, 30)
    who = 2 * np.concatenate([rng.permutation(30) for _ in days]) + place // 6 % 2
    items = 4 * np.maximum(day - place % 3, 0) + 2 * (place // 3 % 2) + who % 2
    times = FIRST_DAY + day * DAY + place
    return pl.DataFrame({"user_id": who, "item_id": items, "timestamp": times})


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    place = tmp_path_factory.mktemp("news")
    frame = news(range(NEWS // 4))
    data = recsys.Dataset.from_frame(frame, time="timestamp", out=place / "data")
    return place, frame, data


def test_what_is_new_comes_first(paper):
    place, _, data = paper
    values = {}
    for half_life in (1.0, None):
        options = {"half_life_days": half_life, "lasting": 0.01}
        config = settings(data.folder, protocol="global-time", model=options)
        run = recsys.train(config, out=place / f"half{half_life}")
        found = recsys.evaluate(run, with_baselines=False, ks=[5], part="valid")
        values[half_life] = found.value("ndcg", 5, 8)
    assert values[1.0] > 1.3 * values[None]


def test_it_is_cut_exported_and_updated_as_a_run_of_any_model(paper, capsys):
    place, frame, data = paper
    run = recsys.train(settings(data.folder, fit_on="all"), out=place / "run")
    model = load_run(run).model
    small = load_run(cut(run, place / "small", granularity=4)).model
    torch.testing.assert_close(small.item_vectors(), model.item_vectors()[:, :4])
    recsys.export(run, place / "bundle", tiers="0:4:int8:ram,4:8:fp32:ram")
    assert recsys.verify(place / "bundle") > 0
    rows = held_out(data, make_split(data), "test").histories(data, np.arange(9))
    with torch.inference_mode():
        wanted = model.user_vectors(rows)
    served = UserTower(load_bundle(place / "bundle")).user_vectors(rows.items, rows.offsets)
    np.testing.assert_allclose(served, wanted, atol=0.05 * float(wanted.abs().max()))

    later = pl.concat([frame, news(range(NEWS // 4, NEWS // 4 + 2))])
    grown = recsys.Dataset.from_frame(later, time="timestamp", like=data, out=place / "later")
    fresh = recsys.update(run, grown.folder, out=place / "updated")
    assert "8 from the rows" in capsys.readouterr().err
    assert load_run_info(fresh)["update"]["started"]["solved"] == 8
    now = load_run(fresh).model
    assert torch.equal(now.interest_of[:NEWS], model.interest_of)
    assert (now.interest_of[NEWS:] == -1).all() and now.item_vectors()[NEWS:, 1:].any(1).all()
    # What was new two days ago is worth less beside the others than it was.
    assert float(now.items[NEWS - 1, 0]) < float(model.items[NEWS - 1, 0])
    again = recsys.update(fresh, _third(later, grown, place).folder, out=place / "third")
    assert torch.equal(load_run(again).model.interest_of[:NEWS], model.interest_of)
    with pytest.raises(ConfigError, match="none is held; leave --compatible"):
        recsys.update(run, grown.folder, out=place / "held", compatible=True)


def _third(later, grown, place):
    rows = pl.concat([later, news(range(NEWS // 4 + 2, NEWS // 4 + 3))])
    return recsys.Dataset.from_frame(rows, time="timestamp", like=grown, out=place / "more")


def test_an_update_that_was_killed_goes_on_with_the_interests_of_its_parent(paper, monkeypatch):
    place, frame, data = paper
    run = recsys.train(settings(data.folder, fit_on="all"), out=place / "parent")
    later = pl.concat([frame, news(range(NEWS // 4, NEWS // 4 + 1))])
    grown = recsys.Dataset.from_frame(later, time="timestamp", like=data, out=place / "next")
    whole = recsys.update(run, grown.folder, out=place / "whole")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MiCRO, "solve", killed)
        with pytest.raises(BaseException):  # noqa: B017 - whatever a stop becomes
            recsys.update(run, grown.folder, out=place / "killed")
    recsys.update(run, grown.folder, out=place / "killed", resume=True)
    one, other = (load_run(each).model for each in (whole, place / "killed"))
    assert torch.equal(one.items, other.items) and torch.equal(one.interest_of, other.interest_of)


def test_the_order_of_a_history_counts_unless_there_is_no_half_life():
    assert not MiCROConfig().order_free and MiCROConfig(half_life_rows=None).order_free
    lists = [[0, 1, 2], [2, 1, 0], [3, 4], [4, 3]]
    decayed = solved(rows_of(lists), num_items=5, half_life_rows=1.0)
    assert not torch.equal(*decayed.user_vectors(rows_of([[0, 3], [3, 0]])))
    alike = solved(rows_of(lists), num_items=5, half_life_rows=None)
    torch.testing.assert_close(*alike.user_vectors(rows_of([[0, 3], [3, 0]])))


def test_a_power_beyond_float32_is_refused():
    with pytest.raises(ConfigError, match="popularity"):
        parse(MiCROConfig, {"name": "micro", "popularity": 50}, "config")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sizes": [1, 8]}, "must start at 2"),
        ({"sizes": [4, 8], "normalize": True}, "set granularities.normalize to false"),
    ],
)
def test_what_has_no_meaning_is_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        parse(MiCROConfig, {"name": "micro", "granularities": options}, "config")
