import pytest
import torch
from pydantic import ValidationError

from recsys.errors import GranularityError
from recsys.granularity import Granularities
from recsys.prefixes import prefix_norms, prefix_scores, truncate


@pytest.mark.parametrize("sizes", [(), (0, 4), (8, 4), (4, 4)])
def test_sizes_must_ascend(sizes):
    with pytest.raises(ValidationError, match="strictly ascending"):
        Granularities(sizes=sizes)


def test_there_is_one_weight_per_granularity():
    with pytest.raises(ValidationError, match="2 weights for 3 granularities"):
        Granularities(sizes=(2, 4, 8), weights=(1.0, 1.0))
    assert Granularities(sizes=(2, 4), weights=(3.0, 1.0)).normalized_weights == (0.75, 0.25)


def test_an_unknown_granularity_is_named_with_the_known_ones():
    with pytest.raises(GranularityError, match=r"48 is not among \(16, 32\) in runs/x; choose"):
        Granularities(sizes=(16, 32)).index(48, "runs/x")


def test_truncate_takes_the_prefix_and_renormalizes_on_demand():
    x = torch.tensor([[3.0, 4.0, 5.0]])
    assert truncate(x, 2).tolist() == [[3.0, 4.0]]
    torch.testing.assert_close(truncate(x, 2, normalize=True), torch.tensor([[0.6, 0.8]]))
    with pytest.raises(GranularityError, match="prefix of 4 coordinates asked of 3"):
        truncate(x, 4)


def test_prefix_scores_equal_dot_products_of_truncated_vectors():
    torch.manual_seed(0)
    users, items = torch.randn(5, 16), torch.randn(7, 16)
    sizes = []
    for size, scores in prefix_scores(users, items, Granularities(sizes=(2, 5, 16))):
        torch.testing.assert_close(scores, truncate(users, size) @ truncate(items, size).T)
        sizes.append(size)
    assert sizes == [2, 5, 16]


def test_normalized_prefix_scores_are_cosines_times_a_number_per_user():
    torch.manual_seed(0)
    users, items = torch.randn(5, 16), torch.randn(7, 16)
    granularities = Granularities(sizes=(2, 5, 16), normalize=True)
    for size, scores in prefix_scores(users, items, granularities):
        u, v = (truncate(x, size, normalize=True) for x in (users, items))
        lengths = truncate(users, size).norm(dim=1, keepdim=True)
        torch.testing.assert_close(scores, u @ v.T * lengths)


def test_prefix_norms_are_norms_of_prefixes():
    x = torch.randn(3, 8)
    found = prefix_norms(x, Granularities(sizes=(2, 8)))
    torch.testing.assert_close(found, torch.stack([x[:, :2].norm(dim=1), x.norm(dim=1)]))


def test_gradients_of_prefix_norms_are_those_of_the_formula():
    torch.manual_seed(0)
    sizes = Granularities(sizes=(2, 5, 8))
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: prefix_norms(x, sizes), x)
    zero = torch.zeros(1, 8, requires_grad=True)
    prefix_norms(zero, sizes).sum().backward()
    assert (zero.grad == 0).all()


def test_prefix_norms_do_not_depend_on_blocks(monkeypatch):
    x, sizes = torch.randn(10, 8), Granularities(sizes=(2, 8))
    whole = prefix_norms(x, sizes)
    monkeypatch.setattr("recsys.prefixes._NORM_ROWS", 3)
    assert (prefix_norms(x, sizes) == whole).all()


def test_what_was_not_named_is_inherited_and_what_was_named_stays():
    own = Granularities(sizes=(2, 4), weights=(3.0, 1.0), normalize=True, initial_scale=15.0)
    short = Granularities(sizes=(2,)).inherit(own)
    assert (short.sizes, short.normalize, short.initial_scale) == ((2,), True, 15.0)
    assert short.weights is None
    assert Granularities(normalize=False).inherit(own) == own.model_copy(
        update={"normalize": False}
    )


def test_learned_scales_alone_grow():
    with pytest.raises(ValidationError, match="scale_grows: false has no effect on scales that"):
        Granularities(sizes=(2, 4), scale_grows=False)
    own = Granularities(sizes=(2, 4), learned_scale=True, scale_grows=False)
    assert not Granularities(sizes=(2, 3, 4)).inherit(own).scale_grows
    assert Granularities(learned_scale=False).inherit(own).scale_grows
