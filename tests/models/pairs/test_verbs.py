"""Every verb on models of pairs, on data that has no order."""

import numpy as np
import pytest
import torch
import yaml

import recsys
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import ConfigError
from recsys.evaluation.held_out import held_out
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.config import RunConfig
from recsys.serving.user_tower import UserTower
from recsys.studies.verb import study
from tests.models.test_order_free_verbs import place, tree

__all__ = ["place"]
MODELS = {
    "lightgcn": {"popularity": 0.02},
    "ltgnn": {},
    "mf": {"users": "both"},
    "svd_gcn": {"directions": 16},
}


def settings(place, name):
    found = tree(place, name, **MODELS[name])
    found["trainer"]["optimizer"] = {"learning_rate": 0.02, "warmup_steps": 0}
    found["trainer"]["epochs"] = 20
    return found | {"loss": {"name": "sampled_softmax", "negatives": {"uniform": 30}}}


@pytest.fixture(scope="module", params=["lightgcn", "ltgnn", "mf"])
def run(request, place):
    config = RunConfig.model_validate(settings(place, request.param))
    return recsys.train(config, out=place / f"pairs-{request.param}")


def test_its_bundle_gives_a_guest_the_lists_of_the_model(run, place):
    table = recsys.evaluate(run, ks=[10], with_baselines=False)
    assert min(table.value("ndcg", 10, size) for size in (4, 8)) > 0.28
    bundle = place / f"{run.name}-bundle"
    recsys.export(run, bundle, tiers="0:8:fp32:ram")
    loaded = recsys.load_run(run)
    held = held_out(loaded.dataset, make_split(loaded.dataset), "test")
    known = held.histories(loaded.dataset, np.arange(9))
    guests = Histories(np.full(9, -1), known.items, known.offsets)
    with torch.inference_mode():
        wanted = loaded.model.user_vectors(guests)
        assert not torch.equal(wanted, loaded.model.user_vectors(known))
    served = UserTower(load_bundle(bundle)).user_vectors(known.items, known.offsets)
    np.testing.assert_allclose(served, wanted, atol=1e-4)
    assert recsys.verify(bundle) > 0
    ids = loaded.dataset.item_frame()["item_id"]
    items = ids.gather(known.items[: known.offsets[1]].tolist()).to_list()
    user = loaded.dataset.user_frame()["user_id"][int(known.users[0])]
    opened = [recsys.load(bundle), recsys.load(run)]
    lists = [
        each.recommend(histories={"guest": items}, k=5)["item_id"].to_list() for each in opened
    ]
    assert lists[0] == lists[1] and len(lists[0]) == 5
    # A history that is given makes the user, also one who is known.
    assert opened[1].recommend(histories={user: items}, k=5)["item_id"].to_list() == lists[1]


def test_funnels_are_measured_of_it_and_it_is_gone_on_with(run, place):
    assert recsys.tradeoff(run, ["keeps=[10]"]).choice is not None
    changes = ["trainer.epochs=1", "fit_on=train+valid"]
    out = recsys.update(run, place / "data", changes, out=place / f"{run.name}-on")
    assert recsys.evaluate(out, ks=[10], with_baselines=False).value("ndcg", 10) > 0.28


def test_what_is_made_of_one_decomposition_is_not_gone_on_with(place):
    found = settings(place, "svd_gcn")
    found["trainer"]["epochs"] = 1
    run = recsys.train(RunConfig.model_validate(found), out=place / "pairs-svd_gcn")
    with pytest.raises(ConfigError, match="solved anew"):
        recsys.update(run, place / "data", ["fit_on=train+valid"], out=place / "no")


def test_a_study_compares_its_prefixes_with_widths_of_their_own(place):
    (place / "pairs.yaml").write_text(yaml.safe_dump(settings(place, "lightgcn")))
    given = {"run": str(place / "pairs.yaml"), "seeds": [0], "methods": ["nested", "separate"]}
    given |= {"num_resamples": 100, "overrides": ["trainer.epochs=2"]}
    (place / "pairs_study.yaml").write_text(yaml.safe_dump(given))
    found = study(place / "pairs_study.yaml", out=place / "pairs_study").content.summary
    assert {"nested", "separate"} <= set(found["method"])
