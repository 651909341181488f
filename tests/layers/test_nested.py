"""Nested layers: a prefix of what they give is what the smaller layer gives of the prefix."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.layers.jagged import layout_of
from recsys.layers.lru import LRUConfig, LRULayer
from recsys.layers.nested import NestedLinear, NestedNorm, check_blocks, halves, scaled
from recsys.layers.transformer import Transformer, TransformerConfig
from tests.layers.test_transformer import histories

SIZES = (4, 8, 16)
BLOCKS = st.lists(st.integers(2, 9), min_size=1, max_size=5)


def corner(small, big):
    """Gives `small` the leading corner of every tensor of `big`."""
    weights = big.state_dict()
    smaller = small.state_dict()
    assert set(smaller) <= set(weights)
    small.load_state_dict(
        {
            name: weights[name][tuple(slice(length) for length in tensor.shape)]
            for name, tensor in smaller.items()
        }
    )
    return small.eval()


def up_to(widths, number):
    return tuple(sum(widths[: j + 1]) for j in range(number))


@given(BLOCKS, st.sampled_from([1.0, 2.0, 1.5]), st.booleans())
def test_a_nested_linear_layer_is_a_dense_one_without_its_upper_blocks(widths, ratio, bias):
    sizes = up_to(widths, len(widths))
    outputs = scaled(sizes, ratio)
    layer = NestedLinear(sizes, outputs, bias=bias)
    dense = torch.zeros(outputs[-1], sizes[-1])
    low = 0
    for block, size, high in zip(layer.blocks, sizes, outputs, strict=True):
        dense[low:high, :size], low = block.weight.detach(), high
    offset = torch.cat([block.bias for block in layer.blocks]) if bias else 0.0
    x = torch.randn(3, sizes[-1])
    torch.testing.assert_close(layer(x), x @ dense.T + offset)


@given(BLOCKS, st.data())
def test_a_prefix_of_linear_and_norm_is_the_smaller_layer_of_the_prefix(widths, data):
    number = data.draw(st.integers(1, len(widths)))
    sizes, fewer = up_to(widths, len(widths)), up_to(widths, number)
    x = torch.randn(5, sizes[-1])
    for big, small in (
        (NestedLinear(sizes, scaled(sizes, 2)), NestedLinear(fewer, scaled(fewer, 2))),
        (NestedNorm(sizes), NestedNorm(fewer)),
    ):
        wanted = big(x)
        given_ = corner(small, big)(x[:, : fewer[-1]])
        torch.testing.assert_close(given_, wanted[:, : given_.shape[1]], rtol=0, atol=1e-6)


def test_a_cut_layer_holds_no_parameter_that_it_does_not_use():
    layer = NestedLinear(SIZES, SIZES)
    layer(torch.randn(7, 16)).square().sum().backward()
    assert all((parameter.grad != 0).all() for parameter in layer.parameters())
    counted = sum(parameter.numel() for parameter in layer.parameters())
    assert counted == 4 * 4 + 4 * 8 + 8 * 16 + 16


def test_halves_finds_two_layers_in_each_block():
    packed = torch.tensor([[1, 2, -1, -2, 3, -3]])
    first, second = halves(packed, (2, 3))
    assert first.tolist() == [[1, 2, 3]] and second.tolist() == [[-1, -2, -3]]


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("layer", ["prenorm", "sasrec", "ligr"])
@pytest.mark.parametrize("size", SIZES)
def test_a_cut_transformer_gives_the_prefix_of_what_the_whole_one_gives(layer, heads, size):
    config = TransformerConfig(
        num_layers=2, num_heads=heads, layer=layer, hidden_ratio=1.5, nested=True
    )
    _check_cut(lambda sizes: Transformer(sizes, config), size)


@pytest.mark.parametrize("size", SIZES)
def test_a_cut_recurrence_gives_the_prefix_of_what_the_whole_one_gives(size):
    _check_cut(lambda sizes: LRULayer(sizes, LRUConfig(hidden_ratio=2.0)), size)


def _check_cut(build, size):
    whole = build(SIZES).eval()
    small = corner(build(tuple(s for s in SIZES if s <= size)), whole)
    x, layout = torch.randn(9, 16), layout_of(histories())
    wanted = whole(x, layout)[:, :size]
    torch.testing.assert_close(small(x[:, :size], layout), wanted, rtol=0, atol=1e-6)
    # And the other coordinates play no part in the prefix.
    x[:, size:] = torch.randn(9, 16 - size)
    torch.testing.assert_close(whole(x, layout)[:, :size], wanted, rtol=0, atol=1e-6)


def test_the_last_tokens_alone_are_the_last_tokens_of_all():
    config = TransformerConfig(num_layers=2, num_heads=2, nested=True)
    encoder = Transformer(SIZES, config).eval()
    x, layout = torch.randn(9, 16), layout_of(histories())
    torch.testing.assert_close(encoder(x, layout, last=True), encoder(x, layout)[layout.last])


def test_a_transformer_that_is_not_nested_lets_prefixes_see_everything():
    """What the nesting is for: without it no smaller model is inside."""
    encoder = Transformer(SIZES, TransformerConfig()).eval()
    x, layout = torch.randn(9, 16), layout_of(histories())
    before = encoder(x, layout)[:, :4]
    x[:, 4:] = torch.randn(9, 12)
    assert not torch.allclose(encoder(x, layout)[:, :4], before, atol=1e-2)


def test_sizes_that_cannot_be_nested_are_refused_with_the_reason():
    check_blocks(SIZES, heads=2)
    with pytest.raises(ValueError, match="granularity 9 adds 1 coordinate"):
        check_blocks((8, 9, 16))
    with pytest.raises(ValueError, match="num_heads 4 does not divide the 2 coordinates"):
        check_blocks((8, 10, 16), heads=4)
    with pytest.raises(ValueError, match=r"hidden_ratio 0\.1 leaves granularity 4 no hidden unit"):
        check_blocks(SIZES, ratio=0.1)
