"""The exported user tower: onnxruntime against the model, whatever the architecture."""

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError, RunError
from recsys.files.onnx_sessions import open_session
from recsys.models import FMRLRec, FMRLRecConfig, SASRec, SASRecConfig
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.manifest import TowerEntry
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.serving.export import TOWER, check_parity, tower_of, why_no_tower
from recsys.serving.onnx_tower import write_onnx
from recsys.serving.user_tower import UserTower

NUM_ITEMS, LENGTH = 30, 7


def model_of(**encoder):
    name, positions = encoder.pop("name", "sasrec"), encoder.pop("positions", "from_end")
    torch.manual_seed(0)
    tree = {
        "granularities": {"sizes": [4, 8, 16]},
        "encoder": encoder,
        "history_length": LENGTH,
        "item_init_std": 0.5,
    }
    if name == "fmrlrec":
        config = FMRLRecConfig.model_validate(tree | {"features": [], "ids": True})
        return FMRLRec(config, NUM_ITEMS).eval()
    model = SASRec(SASRecConfig.model_validate(tree | {"positions": positions}), NUM_ITEMS).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("distance_bias"):  # zeros at first, which would show nothing
            torch.nn.init.normal_(parameter)
    return model


def bundle_of(model, shelf, tiers="0:4:fp32:ram,4:16:fp32:mmap"):
    def add(folder, _):
        write_onnx(model.user_tower(), folder / TOWER, dim=16, longest=LENGTH)
        return {"tower": TowerEntry(file=TOWER, history_length=LENGTH, parity=0.0)}

    source = BundleSource(
        items=model.item_vectors().detach().numpy(),
        item_ids=pl.Series(range(NUM_ITEMS)),
        sizes=(4, 8, 16),
    )
    return load_bundle(write_bundle(shelf, source, parse_tiers(tiers, 16), additions=[add]))


def histories(lengths, seed=0):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.random.default_rng(seed).integers(0, NUM_ITEMS, offsets[-1]).astype(np.int32)
    return Histories(np.arange(len(lengths)), items, offsets)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """Of the default model."""
    return UserTower(bundle_of(model_of(), tmp_path_factory.mktemp("tower") / "out"), threads=1)


CASES = [
    {"layer": "sasrec", "positions": "from_end"},
    {"layer": "prenorm", "num_heads": 2, "positions": "from_start"},
    {"layer": "ligr", "num_layers": 2, "positions": "none"},
    {"layer": "ligr", "num_heads": 2, "distances": 3, "positions": "none"},
    {"layer": "ligr", "num_heads": 2, "nested": True},
    {"name": "fmrlrec", "num_layers": 2, "min_radius": 0.8, "max_radius": 0.99},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_tower_gives_the_models_own_vectors(tmp_path, case):
    model = model_of(**case)
    tower = UserTower(bundle_of(model, tmp_path / "out"), threads=1)
    for lengths in ([3], [1, 1], [1, 5, 7, 3], [12, 2, 40]):  # the last: longer than it sees
        given = histories(lengths)
        with torch.inference_mode():
            wanted = model.user_vectors(given).numpy()
        np.testing.assert_allclose(
            tower.user_vectors(given.items, given.offsets), wanted, atol=2e-6
        )


def test_a_recurrence_over_a_single_item_has_no_step_to_take(tmp_path):
    config = FMRLRecConfig.model_validate(
        {"granularities": {"sizes": [4, 8]}, "features": [], "ids": True, "history_length": 1}
    )
    model = FMRLRec(config, NUM_ITEMS).eval()
    write_onnx(model.user_tower(), tmp_path / TOWER, dim=8, longest=1)
    run = open_session(str(tmp_path / TOWER)).run
    item = model.item_vectors()[3:4].detach().numpy()[:, None]
    found = run(None, {"vectors": item, "lengths": np.array([1])})[0]
    wanted = model.user_vectors(Histories(np.arange(1), np.array([3]), np.array([0, 1])))
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=2e-6)


def test_a_batch_gives_what_its_users_give_one_by_one(tower):
    given = histories(np.random.default_rng(1).integers(1, 12, 300))
    whole = tower.user_vectors(given.items, given.offsets)
    for row in (0, 7, 299):
        one = given.rows(np.array([row]))
        np.testing.assert_allclose(
            tower.user_vectors(one.items, one.offsets)[0], whole[row], atol=2e-6
        )


def test_the_tower_reads_items_from_the_tiers(tower, tmp_path):
    coarse = UserTower(bundle_of(model_of(), tmp_path / "out", "0:16:int4:ram"), threads=1)
    given = histories([4, 6])
    a, b = (t.user_vectors(given.items, given.offsets) for t in (coarse, tower))
    assert 1e-3 < np.abs(a - b).max() < 1


def test_histories_that_cannot_be_encoded_are_refused(tower):
    with pytest.raises(DataError, match="row 1 is empty"):
        tower.user_vectors(np.array([1], np.int32), np.array([0, 1, 1]))
    for items, offsets, told in (
        ([30], [0, 1], "hold 30"), ([-1], [0, 1], "hold -1"), ([1.0], [0, 1], "integer type"),
        (["1"], [0, 1], "looks external ids up"), ([True], [0, 1], "mask"), ([[1]], [0, 1], "one"),
        ([1, 2], [0, 1], "offsets"), ([1], [0, 2], "offsets"), ([1, 2], [1, 2], "offsets"),
        ([1, 2], [0, 2, 1, 2], "offsets"), ([1], [], "offsets"), ([1], [0.0, 1.0], "offsets"),
        ([1], 1, "offsets"), (None, [0], "None"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=told):
            tower.user_vectors(items, offsets)
    assert tower.user_vectors(np.array([], np.int32), np.array([0])).shape == (0, 16)
    assert tower.user_vectors([], [0]).shape == (0, 16)
    session = open_session(str(tower.bundle.folder / TOWER))
    inputs = [(one.name, one.type, len(one.shape)) for one in session.get_inputs()]
    assert inputs == [("vectors", "tensor(float)", 3), ("lengths", "tensor(int64)", 1)]
    assert all(f"`{name} [" in TowerEntry.__doc__ for name, *_ in inputs)


def test_threads_and_bundles_that_are_none_are_refused(tmp_path):
    folder = write_bundle(
        tmp_path / "out",
        BundleSource(np.ones((3, 4), np.float32), pl.Series(range(3)), (4,)),
        parse_tiers("0:4:fp32:ram", 4),
    )
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match="threads"):
            UserTower(load_bundle(folder), threads=wrong)
    with pytest.raises(DataError, match="load_bundle"):
        UserTower(folder)


def test_a_tower_that_differs_is_not_exported():
    wanted = torch.ones(2, 3)
    assert check_parity(wanted, np.ones((2, 3), np.float32) + 1e-6) < 1e-5
    with pytest.raises(RunError, match=r"differ from the model's by 0\.01"):
        check_parity(wanted, np.full((2, 3), 1.01, np.float32))
    with pytest.raises(RunError, match="differ"):
        check_parity(wanted, np.full((2, 3), np.nan, np.float32))


def test_a_model_without_an_onnx_form_says_so():
    class Rows(SASRec):
        def user_tower(self):
            return None

    with pytest.raises(ConfigError, match="Rows has no ONNX form"):
        tower_of(Rows(model_of().config, NUM_ITEMS), None, 16)


def test_a_tower_does_not_go_with_tiers_that_cut_its_inputs_short():
    assert why_no_tower(model_of(), 16) is None
    with pytest.raises(ConfigError, match="end at 8 of 16 coordinates"):
        tower_of(model_of(), None, 8)


def test_a_bundle_without_a_tower_says_so(tmp_path):
    source = BundleSource(np.ones((3, 4), np.float32), pl.Series(range(3)), (4,))
    folder = write_bundle(tmp_path / "out", source, parse_tiers("0:4:fp32:ram", 4))
    with pytest.raises(DataError, match="has no user tower"):
        UserTower(load_bundle(folder))
