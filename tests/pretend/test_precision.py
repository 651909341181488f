"""bf16 forward passes: which figures are rounded, and that nothing is where nobody asks for it."""

import pytest
import torch

from recsys.layers.precision import forward_in, products_in_bf16, sums_in_float32
from recsys.losses import LOSSES
from recsys.training.trainer import TrainerConfig
from tests.pretend.device import NAME
from tests.pretend.steps import figures, ready, step
from tests.pretend.test_steps import MODELS, data, settings  # noqa: F401 - data is a fixture

STILL = {
    "sasrec": {"encoder": {"dropout": 0.0}, "history_dropout": 0.0, "seen_negatives": True},
    "fmrlrec": {"ids": True, "features": [], "encoder": {"dropout": 0.0}},
    "two_tower": {},
}


def gradients(config, device, precision):
    """Loss and gradients of one step, and the types of all that stays."""
    _, _, model, feed = ready(config, device)
    optimizer = torch.optim.AdamW(model.parameters())
    found = {}

    def look():
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.dtype == torch.float32
                found[name] = parameter.grad.cpu().to_dense().clone()

    with forward_in(precision, model.device):
        losses = step(model.train(), next(feed.epoch(0, 0, 0)), optimizer, 0, look)
    assert losses.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(
        slot.dtype == torch.float32 for slots in optimizer.state.values() for slot in slots.values()
    )
    return losses.cpu(), found


@pytest.mark.parametrize("device", ["cpu", NAME])
@pytest.mark.parametrize("name", MODELS)
def test_bf16_gradients_are_those_of_float32_but_for_their_rounding(name, device, data):  # noqa: F811
    for loss in ("sampled_softmax", "gbce") if name == "sasrec" else ("softmax",):
        more = STILL[name] if loss != "gbce" else {**STILL[name], "seen_negatives": False}
        config = settings(data, name, loss, **more)
        exact, wanted = gradients(config, device, "float32")
        rounded, found = gradients(config, device, "bf16")
        torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=1e-2)
        assert found.keys() == wanted.keys()
        for part, grad in found.items():
            gap = (grad - wanted[part]).norm() / wanted[part].norm().clamp_min(1e-6)
            assert gap < 0.05, part
        # A table of users and one of items multiply nothing but in the loss.
        assert torch.equal(rounded, exact) == (name == "two_tower")


@pytest.mark.parametrize("device", ["cpu", NAME])
def test_losses_get_float32_and_are_told_of_bf16(device):
    @sums_in_float32
    def loss(users, *, items):
        assert users.dtype == items.dtype == torch.float32
        return products_in_bf16(), (users @ items.T).dtype

    users = torch.ones(2, 3, device=device)
    assert loss(users, items=users) == (False, torch.float32)
    with forward_in("bf16", torch.device(device)):
        assert (users @ users.T).dtype == torch.bfloat16
        assert loss(users.bfloat16(), items=users.bfloat16()) == (True, torch.float32)
    assert not products_in_bf16()


def test_nothing_is_rounded_unless_it_is_asked_for(data, monkeypatch):  # noqa: F811
    assert TrainerConfig().precision == "float32"
    real = torch.autocast

    def autocast(kind, *args, enabled=True, **how):
        assert not enabled, "autocast is entered"
        return real(kind, *args, enabled=enabled, **how)

    monkeypatch.setattr(torch, "autocast", autocast)
    with forward_in("float32", torch.device("cpu")):
        figures(settings(data, "sasrec"), "cpu", steps=1)
    with pytest.raises(AssertionError, match="autocast"), forward_in("bf16", torch.device("cpu")):
        pass


def test_every_loss_is_taken_out_of_autocast(data):  # noqa: F811
    for loss in set(LOSSES.names()) - {"constrained_bce"}:  # which fits one model, not this one
        config = settings(data, "two_tower", loss)
        one, other = (gradients(config, "cpu", precision)[0] for precision in ("float32", "bf16"))
        assert torch.equal(one, other), loss
