"""The linear recurrence against a loop, token after token."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.layers.jagged import layout_of
from recsys.layers.lru import LRU, LRUConfig, linear_recurrence
from tests.layers.test_transformer import histories

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def looped(inputs, decay, layout):
    states = []
    for t, position in enumerate(layout.positions.tolist()):
        states.append(inputs[t] + (decay * states[-1] if position else 0))
    return torch.stack(states)


@given(LENGTHS, st.integers(0, 9))
def test_the_parallel_scan_gives_what_a_loop_gives(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    layout = layout_of(histories(lengths))
    inputs = torch.randn(sum(lengths), 3, dtype=torch.complex128, generator=generator)
    decay = torch.randn(3, dtype=torch.complex128, generator=generator) * 0.6
    found = linear_recurrence(inputs, decay, layout)
    torch.testing.assert_close(found, looped(inputs, decay, layout))


def test_its_gradients_are_those_of_finite_differences():
    layout = layout_of(histories([3, 1, 6]))
    inputs = torch.randn(10, 2, dtype=torch.complex128, requires_grad=True)
    decay = (torch.randn(2, dtype=torch.complex128) * 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: linear_recurrence(x, a, layout), (inputs, decay))


def test_real_numbers_do_as_well():
    layout = layout_of(histories([3]))
    found = linear_recurrence(torch.ones(3, 1), torch.tensor([0.5]), layout)
    assert found.tolist() == [[1.0], [1.5], [1.75]]


def test_the_layer_is_the_complex_recurrence_of_the_paper():
    """`h_t = lambda h_{t-1} + gamma (B x_t)`, `y_t = Re(C h_t)`, written in complex numbers."""
    layer, layout = LRU((2, 4), LRUConfig()), layout_of(histories([3, 5]))
    x = torch.randn(8, 4)
    pairs = layer.into(x)
    states = torch.complex(pairs[:, 0::2], pairs[:, 1::2])
    decay = torch.exp(torch.complex(-layer.log_nu.exp(), layer.log_theta.exp()))
    states = looped(states * layer.log_gamma.exp(), decay, layout)
    # Re(C h) with C = W_real - i W_imag: the output layer sees pairs.
    low, expected = 0, torch.zeros(8, 4)
    for block, high in zip(layer.out.blocks, (2, 4), strict=True):
        weight = torch.complex(block.weight[:, 0::2], -block.weight[:, 1::2])
        expected[:, low:high] = (states[:, :high] @ weight.T).real + block.bias
        low = high
    torch.testing.assert_close(layer(x, layout), expected)


def test_decays_start_in_the_ring_and_stay_inside_the_unit_circle():
    layer = LRU((64, 128), LRUConfig(min_radius=0.3, max_radius=0.9))
    radius = layer.decay().abs()
    assert radius.min() >= 0.3 and radius.max() <= 0.9
    gamma = layer.log_gamma.exp()
    torch.testing.assert_close(gamma.square() + radius.square(), torch.ones(128))
    with torch.no_grad():
        layer.log_nu.add_(-5.0)
    assert (layer.decay().abs() < 1).all()
