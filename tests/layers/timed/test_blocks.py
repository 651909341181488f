"""Attention in blocks of queries: what plain loops give, and never all scores at once."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.data.histories import Histories
from recsys.layers.jagged import layout_of
from recsys.layers.timed import query_blocks
from recsys.layers.timed.buckets import NUM_BUCKETS, TimeBias, time_buckets
from recsys.layers.timed.pointwise import PointwiseAttention
from recsys.layers.timed.softmax import attend_in_blocks, softmax_bias
from recsys.layers.transformer import Transformer, TransformerConfig

SIZES, HEADS = (4, 8), 2
LENGTHS = (5, 1, 9)


def timed(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.sort(rng.integers(0, 10**7, length)) for length in lengths])
    asked = times[offsets[1:] - 1] + rng.integers(0, 10**6, len(lengths))
    items = np.zeros(offsets[-1], np.int32)
    return Histories(np.arange(len(lengths)), items, offsets, times.astype(np.int64), asked)


def test_buckets_are_logarithms_and_the_future_is_now():
    seconds = torch.tensor([-5, 0, 1, 2, 60, 86_400, 10**9, 2**62])
    logs = (seconds.clamp_min(1).double().log() / 0.301).floor().clamp_max(NUM_BUCKETS - 1)
    assert time_buckets(seconds).tolist() == logs.long().tolist()
    assert time_buckets(seconds)[:3].tolist() == [0, 0, 0]


def test_requests_are_the_next_tokens_time_and_at_last_the_one_given():
    histories = timed()
    grid = layout_of(histories, time="request").times
    for row, (lo, hi) in enumerate(zip(histories.offsets, histories.offsets[1:], strict=False)):
        own = histories.timestamps[lo:hi]
        wanted = [*own[1:], histories.asked_at[row]]
        assert grid.asked[row, : hi - lo].tolist() == wanted
        assert grid.since[row, : hi - lo].tolist() == (np.array(wanted) - own).tolist()
    alone = layout_of(histories, time="history").times
    assert torch.equal(alone.asked, alone.seen)


def weights_of(kind, scores, place, time, count):
    """`[count]` weights of one query, by the papers' formulas: one list for each channel."""
    silu = torch.nn.functional.silu
    if kind == "hstu":
        return [silu(scores + place + time) / count]
    if kind == "fuxi":
        return [silu(scores) / count, place, time]
    return [(scores + time).softmax(0)]


def by_loops(kind, parts, places, times, histories):
    """`[T, C D]`, query by query, head by head; `parts`: queries, keys, values `[T, D]`."""
    layout = layout_of(histories, time="request")
    rows, blocks = [], (SIZES if kind != "softmax" else SIZES[-1:])
    edges = list(zip((0, *blocks), blocks, strict=False))
    for user, (lo, hi) in enumerate(zip(histories.offsets, histories.offsets[1:], strict=False)):
        for step in range(hi - lo):
            row = []
            seconds = layout.times.asked[user, step] - layout.times.seen[user, : step + 1]
            for block, (left, right) in enumerate(edges):
                width = (right - left) // HEADS
                heads = []
                for head in range(HEADS):
                    own = slice(left + head * width, left + (head + 1) * width)
                    q = parts[0][lo + step, own]
                    k, v = (part[lo : lo + step + 1, own] for part in parts[1:])
                    number = block * HEADS + head
                    time = times[number][time_buckets(seconds)]
                    place = places[number][torch.arange(step, -1, -1)]
                    scores = k @ q * width**-0.5
                    found = weights_of(kind, scores, place, time, step + 1)
                    heads.append([weight @ v for weight in found])
                row += [part for channel in zip(*heads, strict=True) for part in channel]
            rows.append(torch.cat(row))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["hstu", "fuxi", "softmax"])
@pytest.mark.parametrize("most", [None, 60, 1])
def test_blocks_of_queries_give_the_values_and_gradients_of_loops(kind, most, monkeypatch):
    if most is not None:
        monkeypatch.setattr(query_blocks, "SCORES", most)
    torch.manual_seed(0)
    histories = timed()
    layout = layout_of(histories, time="request")
    parts = [torch.randn(sum(LENGTHS), 8, requires_grad=True) for _ in range(3)]
    if kind == "softmax":
        bias = TimeBias(HEADS)
        places, times = torch.zeros(HEADS, 9), bias.table
    else:
        mixer = PointwiseAttention(SIZES, HEADS, 9, timed=True, channels=kind == "fuxi")
        places, times = mixer.places.table, mixer.times.table
        torch.nn.init.normal_(places)
    torch.nn.init.normal_(times)

    def by_layer():
        if kind != "softmax":
            return mixer(*parts, layout, last=False)
        heads = [layout.pad(part).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts]
        return layout.pack(attend_in_blocks(heads, 0.0, softmax_bias(bias, None, layout)))

    inputs = [*parts, times] if kind == "softmax" else [*parts, times, places]
    pull = torch.randn_like(by_loops(kind, parts, places, times, histories))
    found, wanted = (
        (made, torch.autograd.grad((made * pull).sum(), inputs))
        for made in (by_layer(), by_loops(kind, parts, places, times, histories))
    )
    torch.testing.assert_close(found[0], wanted[0])
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    if kind != "softmax":
        torch.testing.assert_close(mixer(*parts, layout, last=True), found[0][layout.last])


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                self.size = max(self.size, each.untyped_storage().nbytes() // each.element_size())
        return made


@pytest.mark.parametrize("kind", ["hstu", "fuxi", "time", "distances", "dropout"])
def test_no_step_of_training_holds_the_scores_of_all_queries(kind, monkeypatch):
    longest, dim = 300, 8
    monkeypatch.setattr(query_blocks, "SCORES", 20_000)
    monkeypatch.setattr("recsys.layers.timed.softmax.AT_ONCE", 20_000)
    layout = layout_of(timed([longest]), time="request")
    x = torch.randn(longest, dim, requires_grad=True)
    if kind in ("hstu", "fuxi"):
        mixer = PointwiseAttention((dim,), 1, longest, timed=True, channels=kind == "fuxi")
        run = lambda: mixer(x, x, x, layout, last=False)  # noqa: E731
    else:
        options = {"distances": {"distances": 5}, "dropout": {"attention_dropout": 0.5}}
        config = TransformerConfig(**options.get(kind, {}))
        encoder = Transformer((dim,), config, timed=kind == "time")
        run = lambda: encoder(x, layout)  # noqa: E731
    with Largest() as seen:
        run().sum().backward()
    assert x.grad.abs().sum() > 0
    assert seen.size <= 20_000 < longest**2
