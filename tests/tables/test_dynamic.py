"""Ids that come and go, against a dict."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import RunError
from recsys.kernels.id_map import EMPTY, delete, find, look_up
from recsys.kernels.row_admission import ADMITTED, EXPIRED, FREE_ENTRIES, FREE_ROWS, REFUSED
from recsys.tables import DynamicConfig, DynamicTable, UpdateRule
from recsys.tables.dynamic import COMMON

DIM = 4


def make(rows=8, entries=64, **config):
    torch.manual_seed(0)
    settings = DynamicConfig(rows=rows, entries=entries, expire_every=10**9, **config)
    return DynamicTable(settings, 10, DIM, init_std=0.1)


class Naive:
    """The same promises, kept by dicts."""

    def __init__(self, num_rows, min_count, time_to_live):
        self.free, self.min_count, self.time_to_live = num_rows, min_count, time_to_live
        self.count, self.seen, self.admitted = {}, {}, set()

    def observe(self, ids, now):
        for each in ids:
            self.count[each] = self.count.get(each, 0) + 1
            self.seen[each] = now
            if each not in self.admitted and self.count[each] >= self.min_count and self.free:
                self.admitted.add(each)
                self.free -= 1

    def expire(self, now):
        for each in [e for e in self.seen if self.seen[e] < now - self.time_to_live]:
            del self.count[each], self.seen[each]
            if each in self.admitted:
                self.admitted.remove(each)
                self.free += 1


ids = st.integers(-3, 25)
steps = st.lists(
    st.tuples(st.lists(ids, max_size=12), st.integers(0, 4), st.booleans()), max_size=25
)


@given(steps, st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=150)
def test_no_collision_and_no_lost_row_whatever_comes_and_goes(steps, min_count, time_to_live):
    table, naive = make(min_count=min_count, time_to_live=time_to_live), None
    naive = Naive(8, min_count, time_to_live)
    written, now = {}, 0
    for events, later, expiring in steps:
        now += later
        before = set(naive.admitted)
        table.observe(torch.tensor(events, dtype=torch.int64), now)
        naive.observe(events, now)
        if expiring:
            table.expire()
            naive.expire(now)
        everyone = torch.arange(-3, 26)
        rows = table.rows_of(everyone)
        own = {int(i): int(r) for i, r in zip(everyone, rows, strict=True) if r != COMMON}
        assert set(own) == naive.admitted  # who has a row, and who shares the common one
        assert len(set(own.values())) == len(own)  # no two share one
        assert int(table.totals[FREE_ROWS]) == naive.free == 8 - len(own)
        assert int(table.totals[FREE_ENTRIES]) == 64 - len(naive.count)
        written = {i: value for i, value in written.items() if i in own and i in before}
        for i, row in own.items():
            if i in written:  # what was learned of it is still there
                assert table.weight[row, 0] == written[i]
            with torch.no_grad():
                table.weight[row] = written.setdefault(i, 100.0 + len(written) + now)


def test_a_row_that_is_given_out_again_starts_anew_with_its_moments():
    table = make(rows=1, time_to_live=2)
    table.observe(torch.tensor([7]), 0)
    row = int(table.rows_of(torch.tensor(7)))
    for _ in range(3):
        table(torch.tensor([7])).sum().backward()
        table.update_rows(UpdateRule(1.0))
    slots = table.optimizer_slots()
    assert slots["exp_avg"][row].all() and table.weight[row].abs().min() > 0.5
    table.observe(torch.tensor([9]), 1)  # there is no row for it yet
    assert int(table.rows_of(torch.tensor(9))) == COMMON
    table.observe(torch.tensor([9]), 3)
    assert table.expire() == 1 and int(table.totals[EXPIRED]) == 1
    table.observe(torch.tensor([9]), 3)
    assert int(table.rows_of(torch.tensor(9))) == row
    assert not slots["exp_avg"][row].any() and not slots["exp_avg_sq"][row].any()
    assert table.weight[row].abs().max() < 0.5
    assert int(table.rows_of(torch.tensor(7))) == COMMON


def test_ids_that_wait_make_room_for_new_ones_and_those_with_rows_do_not():
    table = make(rows=4, entries=8, min_count=2)
    table.observe(torch.tensor([1, 1, 2, 2, 3, 3, 4, 4]), 0)
    for now in range(1, 50):  # a stream of ids that never come again
        table.observe(torch.tensor([100 + now]), now)
    rows = table.rows_of(torch.tensor([1, 2, 3, 4]))
    assert sorted(rows.tolist()) == [1, 2, 3, 4]
    assert int(table.totals[REFUSED]) == 0


def test_when_every_entry_has_a_row_new_ids_share_the_common_one():
    table = make(rows=4, entries=4)
    table.observe(torch.tensor([1, 2, 3, 4, 5, 5, 6]), 0)
    assert table.rows_of(torch.tensor([5, 6])).tolist() == [COMMON, COMMON]
    assert int(table.totals[REFUSED]) == 3 and int(table.totals[ADMITTED]) == 4


def test_it_goes_on_from_what_was_saved_as_if_it_had_never_stopped():
    rng = np.random.default_rng(0)
    batches = [torch.from_numpy(rng.zipf(1.3, 50) % 40) for _ in range(40)]
    options = {"rows": 12, "entries": 24, "min_count": 2, "time_to_live": 5}
    whole, part = make(**options), make(**options)
    for now, batch in enumerate(batches):
        if now == 20:
            saved = {name: value.clone() for name, value in part.state_dict().items()}
            slots = {name: value.clone() for name, value in part.optimizer_slots().items()}
            part = make(**options)
            part.load_state_dict(saved)
            for name, value in part.optimizer_slots().items():
                value.copy_(slots[name])
        for table in (whole, part):
            torch.manual_seed(table is part)  # another process has another state of chance
            table.observe(batch, now)
            table(batch).square().sum().backward()
            table.update_rows(UpdateRule(0.1))
            table.expire()
    for name, value in whole.state_dict().items():
        assert torch.equal(part.state_dict()[name], value), name


def test_time_does_not_go_back():
    table = make()
    table.observe(torch.tensor([1]), 5)
    with pytest.raises(RunError, match="in the order of time"):
        table.observe(torch.tensor([1]), 4)


@given(st.lists(st.tuples(st.integers(-5, 30), st.booleans()), max_size=200))
def test_the_map_is_a_dict(changes):
    keys, slots, expected = np.full(64, EMPTY), np.zeros(64, np.int32), {}
    for number, (key, add) in enumerate(changes):
        place = find(keys, key)
        assert (keys[place] != EMPTY) == (key in expected)
        if add:
            keys[place], slots[place] = key, number
            expected[key] = number
        elif key in expected:
            delete(keys, slots, place)
            del expected[key]
        everyone, found = np.arange(-5, 31), np.empty(36, np.int32)
        look_up(keys, slots, everyone, found)
        assert found.tolist() == [expected.get(key, -1) for key in everyone]
