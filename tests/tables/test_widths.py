"""The ramp of learned widths follows the training that is planned, step by step."""

import pytest
import torch

from recsys.config import parse
from recsys.errors import ConfigError
from recsys.tables import WidthsConfig, note_progress
from recsys.tables.shared_rows.multiplexed import SharedSpace
from tests.tables.kinds import config_of, make

N, D = 40, 16


def widths(**changes):
    return make("widths", N, D, share=0.5, start=0.2, ramp=0.5, every=1, **changes).train()


def train_on(table, num_steps, lookups=1):
    """The slices of all rows after every step."""
    kept = []
    for step in range(num_steps):
        note_progress(table, step / num_steps)
        for _ in range(lookups):
            table(torch.arange(N))
        kept.append(int(table.kept.sum()))
    return kept


@pytest.mark.parametrize("num_steps", [10, 100, 1000])
def test_rows_are_as_short_as_they_are_served_before_training_ends_however_short_it_is(num_steps):
    table = widths()
    kept = train_on(table, num_steps)
    assert kept[num_steps // 5 - 1] == N * 16  # whole until a fifth
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == table.budget and table.ramped == 1
    assert kept[int(0.75 * num_steps)] == table.budget
    assert torch.equal(table.kept, table.served())


def test_a_step_with_several_lookups_is_one_step():
    assert train_on(widths(), 50, lookups=1) == train_on(widths(), 50, lookups=3)


def test_users_and_items_that_share_a_table_take_one_step_together():
    space = SharedSpace(config_of("widths"), {"items": 30, "users": 10}, D, init_std=0.1)
    holder = torch.nn.Module()
    holder.rows, holder.users = space.feature("items"), space.feature("users")
    holder.space = space
    for _ in range(3):
        note_progress(holder, 0.5)
    (table,) = (each for each in holder.modules() if hasattr(each, "ramped"))
    assert int(table.steps) == 3


def test_what_is_evaluated_is_as_short_as_what_is_served_also_before_the_ramp():
    table = widths()
    train_on(table, 3)
    table.eval()
    assert int((table.vectors() != 0).sum()) <= table.budget * table.width
    assert table.ramped < 1


def test_a_ramp_in_steps_is_told_that_it_counts_parts_of_the_training():
    with pytest.raises(ConfigError, match="start 200 and ramp 1000 are parts of the planned"):
        parse(WidthsConfig, {"start": 200, "ramp": 1000}, "a file")
    with pytest.raises(ConfigError, match=r"together at most 0\.9"):
        parse(WidthsConfig, {"start": 0.5, "ramp": 0.5}, "a file")
