import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.layers.dropout import Dropout
from recsys.layers.jagged import layout_of
from recsys.layers.transformer import SelfAttention, Transformer, TransformerConfig

LENGTHS = [3, 1, 5]


def histories(lengths=LENGTHS):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(offsets[-1]).astype(np.int32)
    return Histories(np.arange(len(lengths)), items, offsets)


@pytest.fixture(params=["prenorm", "sasrec", "ligr", "distances"])
def encoder(request):
    torch.manual_seed(0)
    config = {"layer": request.param}
    if request.param == "distances":
        config = {"layer": "ligr", "distances": 3}  # fewer than the longest history has
    encoder = Transformer((8,), TransformerConfig(num_layers=2, num_heads=2, **config)).eval()
    for layer in encoder.layers:
        if layer.attention.distance_bias is not None:
            torch.nn.init.normal_(layer.attention.distance_bias)
    return encoder


def test_padding_and_packing_are_inverse():
    layout = layout_of(histories())
    packed = torch.randn(9, 4)
    padded = layout.pad(packed)
    assert padded.shape == (3, 5, 4)
    torch.testing.assert_close(padded[1, 0], packed[3])
    assert not padded[1, 1:].any()
    torch.testing.assert_close(layout.pack(padded), packed)


def test_gradients_go_through_padding_and_packing():
    layout = layout_of(histories())
    packed = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    padded = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.pad, (packed,))
    assert torch.autograd.gradcheck(layout.pack, (padded,))


def test_bf16_products_train_alike_and_leave_the_evaluated_model_alone(encoder):
    layout, x = layout_of(histories()), torch.randn(9, 8)
    exact = encoder(x, layout)
    encoder.bf16 = True
    assert torch.equal(encoder(x, layout), exact)  # not training
    for module in encoder.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    rounded = encoder.train()(x, layout)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)
    rounded.square().sum().backward()
    assert all(weight.grad.dtype == torch.float32 for weight in encoder.parameters())


def test_positions_count_from_either_end():
    layout = layout_of(histories())
    assert layout.positions.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]
    assert layout.from_end.tolist() == [2, 1, 0, 0, 4, 3, 2, 1, 0]
    assert layout.last.tolist() == [2, 3, 8]


def test_a_changed_future_item_leaves_earlier_positions_unchanged(encoder):
    layout, x = layout_of(histories()), torch.randn(9, 8)
    before = encoder(x, layout)
    x[7] = torch.randn(8)  # the fourth of the five items of the last user
    after = encoder(x, layout)
    torch.testing.assert_close(after[:7], before[:7])
    assert not torch.allclose(after[7], before[7])
    assert not torch.allclose(after[8], before[8])


def test_a_batch_equals_its_users_one_by_one(encoder):
    x = torch.randn(9, 8)
    together = encoder(x, layout_of(histories()))
    alone = [encoder(part, layout_of(histories([len(part)]))) for part in torch.split(x, LENGTHS)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_last_tokens_alone_are_the_last_tokens_of_all(encoder):
    x, layout = torch.randn(9, 8), layout_of(histories())
    torch.testing.assert_close(encoder(x, layout, last=True), encoder(x, layout)[layout.last])


def test_a_distance_bias_is_added_by_steps_back_and_shared_beyond_its_end():
    config = TransformerConfig(num_heads=2, distances=3, layer="prenorm")
    torch.manual_seed(0)
    attention = SelfAttention(8, config)
    bias = torch.randn(2, 3)
    attention.distance_bias.data.copy_(bias)
    x = torch.randn(5, 8)
    query, (key, value) = attention.query(x), attention.key_value(x).chunk(2, dim=1)
    rows = []
    for head in range(2):
        mine = slice(4 * head, 4 * head + 4)
        scores = query[:, mine] @ key[:, mine].T / 2.0
        for i in range(5):
            for j in range(5):
                scores[i, j] += bias[head, min(i - j, 2)] if j <= i else -torch.inf
        rows.append(scores.softmax(1) @ value[:, mine])
    wanted = attention.out(torch.cat(rows, dim=1))
    found = attention(x, x, layout_of(histories([5])))
    torch.testing.assert_close(found, wanted)
    found.square().sum().backward()
    assert attention.distance_bias.grad.abs().min() > 0


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = Dropout(0.3)
    found = layer(torch.ones(401, 997))
    assert abs((found == 0).float().mean().item() - 0.3) < 0.005
    assert abs(found.mean().item() - 1.0) < 0.01
    # The four decisions that share one random number are independent of each other.
    lanes = (found.flatten()[: 4 * 99_000].view(-1, 4) == 0).double()
    assert torch.corrcoef(lanes.T).fill_diagonal_(0).abs().max() < 0.02


def test_dropout_repeats_with_the_seed_and_rests_in_eval_mode():
    layer, x = Dropout(0.5), torch.ones(10, 10)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)
