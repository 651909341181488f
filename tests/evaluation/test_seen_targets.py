"""Repeat purchases under a protocol that filters seen items: counted on the card, never silent."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.dataset import write_dataset
from recsys.data.splitting import make_split
from recsys.evaluation import seen_targets as module
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import held_out
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.seen_targets import seen_targets
from recsys.reports.words import card_lines
from tests.evaluation.ranking.naive import FixedScores, random_dataset


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["leave-last-out", "global-time"]))
def test_seen_targets_are_those_a_loop_finds_whatever_the_piece(tmp_path_factory, seed, split):
    dataset = random_dataset(tmp_path_factory.mktemp("data") / "d", seed, 40, 30, split=split)
    held = held_out(dataset, make_split(dataset), "test")
    expected = [
        target in dataset.items[held.start[row] : held.end[row]].tolist()
        for row in range(len(held.users))
        for target in held.targets[held.offsets[row] : held.offsets[row + 1]].tolist()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", 16)
        assert seen_targets(dataset, held).tolist() == expected


def table_of(folder, rows, protocol):
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    dataset = write_dataset(folder / "d", frame, name="shop", order="given")
    scores = FixedScores(pl.DataFrame(np.ones((dataset.num_users, dataset.num_items))).to_torch())
    options = {"protocol": PROTOCOLS[protocol], "part": "test", "ks": (1, 10)}
    return evaluate(scores, dataset, make_split(dataset), **options)


REPEATS = [(user, item) for user in "abcd" for item in (user, user, user)]
MIXED = [*REPEATS, *[("e", item) for item in "xyzab"]]


def test_a_shop_of_pure_repeats_is_told_that_nothing_can_be_found(tmp_path):
    table = table_of(tmp_path, REPEATS, "s3rec")
    assert table.value("recall", 10) == 0
    lines = dict(card_lines(table.card))
    assert "4 of 4 targets are in the history they are predicted from" in lines["seen targets"]
    assert "recall cannot exceed 0.000" in lines["seen targets"]
    assert "protocol=fmrlrec" in lines["seen targets"]


def test_the_ceiling_is_the_recall_of_a_model_that_finds_all_it_can(tmp_path):
    table = table_of(tmp_path, MIXED, "s3rec")
    assert "4 of 5 targets" in table.card.filtered_targets
    assert "cannot exceed 0.200" in table.card.filtered_targets
    assert table.value("recall", 10) == pytest.approx(0.2)


def test_cards_differ_in_nothing_for_the_count_alone_and_need_none_where_seen_items_are_ranked(
    tmp_path,
):
    table = table_of(tmp_path, MIXED, "fmrlrec")
    assert table.card.filtered_targets == ""
    assert "seen targets" not in dict(card_lines(table.card))
    card = table_of(tmp_path, MIXED, "s3rec").card
    assert card.differences(card.model_copy(update={"filtered_targets": ""})) == []
