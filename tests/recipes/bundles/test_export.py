"""`recsys export` and `recsys verify` on a small trained run."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import recsys
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories, select
from recsys.errors import ConfigError, DataError
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.metrics import ndcg, ranks_in
from recsys.evaluation.recommend import recommend
from recsys.recipes.bundles.export import default_tiers
from recsys.recipes.evaluating.queries import queries_of
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.serving.user_tower import UserTower
from tests.command import call
from tests.recipes.test_verbs import config, frame


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    data = write_dataset(place / "data", frame(), name="walks").folder
    return recsys.train(config(data, trainer={"epochs": 1}), out=place / "run")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    tiers = "0:4:fp32:ram,4:8:fp32:mmap"
    return load_bundle(recsys.export(run, tmp_path_factory.mktemp("b") / "out", tiers=tiers))


def test_a_bundle_holds_the_models_items_users_and_histories(run, bundle):
    loaded = recsys.load_run(run)
    data = loaded.dataset
    everything = Histories(np.arange(data.num_users), data.items, data.offsets)
    with torch.inference_mode():
        items = loaded.model.item_vectors().numpy()
        users = loaded.model.user_vectors(everything).numpy()
    np.testing.assert_array_equal(bundle.items.decode(slice(None), 0, 8), items)
    np.testing.assert_allclose(bundle.users.decode(slice(None), 0, 8), users, atol=2e-6)
    np.testing.assert_array_equal(bundle.seen[0], data.items)
    assert bundle.ids("item")["item_id"].to_list() == data.item_frame()["item_id"].to_list()


def test_the_manifest_tells_where_the_vectors_come_from(run, bundle):
    manifest = bundle.manifest
    assert manifest.model["run"] == "run" and manifest.model["name"] == "sasrec"
    assert manifest.protocol["protocol"] == "s3rec"
    assert manifest.sizes == (4, 8) and len(manifest.scales) == 2
    assert manifest.tower is not None and manifest.tower.parity < 1e-5


def test_the_tower_in_the_bundle_encodes_histories_as_the_model_does(run, bundle):
    loaded = recsys.load_run(run)
    data = loaded.dataset
    histories = Histories(np.arange(data.num_users), data.items, data.offsets)
    with torch.inference_mode():
        wanted = loaded.model.user_vectors(histories).numpy()
    given = UserTower(bundle, threads=1).user_vectors(data.items, data.offsets)
    np.testing.assert_allclose(given, wanted, atol=2e-6)


def test_searching_a_bundle_gives_the_models_own_lists_and_scores(run, bundle):
    loaded = recsys.load_run(run)
    data, model = loaded.dataset, loaded.model
    histories = select(data, np.arange(data.num_users), loaded.split.start, loaded.split.valid_end)
    own = recommend(model, histories, data.num_items, k=10, filter_seen=True)
    users = UserTower(bundle, threads=1).user_vectors(histories.items, histories.offsets)
    filters = make_filters(len(users), data.num_items, seen=(histories.items, histories.offsets))
    for stages in ([Stage(8, 10)], [Stage(4, data.num_items), Stage(8, 10)]):
        found = Funnel(bundle, stages, threads=1).search(users, 10, filters)
        np.testing.assert_array_equal(found.items, own)
        with torch.inference_mode():
            exact = model.user_vectors(histories).numpy() @ model.item_vectors().numpy().T
        norms = np.linalg.norm(model.item_vectors().detach().numpy(), axis=1)
        wanted = exact / norms if bundle.normalize else exact
        listed = np.take_along_axis(wanted, found.items.clip(0), axis=1)
        shown = found.items >= 0
        np.testing.assert_allclose(found.scores[shown], listed[shown], rtol=1e-6, atol=1e-6)


def test_serving_a_bundle_needs_no_torch(bundle):
    code = (
        "import sys, numpy as np; from recsys.retrieval.bundle.loading import load_bundle; "
        "from recsys.serving.user_tower import UserTower; "
        f"tower = UserTower(load_bundle({str(bundle.folder)!r})); "
        "from recsys.retrieval.funnel import Funnel, Stage; "
        "users = tower.user_vectors(np.array([1, 2], np.int32), np.array([0, 2])); "
        "print(Funnel(tower.bundle, [Stage(8, 3)]).search(users).items.shape); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 3)", done.stderr


def test_the_verbs_write_and_check_a_bundle(run, tmp_path):
    out = tmp_path / "out"
    printed = call("export", run, out, "--tiers", "0:4:int8:ram,4:8:fp16:mmap", "--no-tower")
    assert f"{out}/v000001" in printed and "no user tower: --no-tower" in printed
    assert "0:4:int8:ram" in printed and "relative error" in printed
    assert "whole" in call("verify", out)
    codes = next(out.glob("v000001/items/*/codes"))
    codes.write_bytes(bytes([codes.read_bytes()[0] ^ 1]) + codes.read_bytes()[1:])
    assert "items/0000-0004-int8/codes is not what was written" in call("verify", out, code=1)
    assert "beyond the 8" in call("export", run, out, "--tiers", "0:16:int8:ram", code=1)
    assert "is neither a run folder nor a bundle" in call("export", tmp_path, out, code=1)


def test_default_tiers_keep_a_short_prefix_in_memory(run):
    sizes = recsys.load_run(run).model.granularities
    assert default_tiers(sizes) == "0:8:int8:ram"
    longer = sizes.model_copy(update={"sizes": (8, 16, 32, 64, 256)})
    assert default_tiers(longer) == "0:32:int8:ram,32:256:fp16:mmap"


def test_a_model_whose_users_are_a_table_is_exported_without_a_tower(run, tmp_path):
    data = recsys.load_run(run).config.data
    settings = config(
        data,
        trainer={"epochs": 1},
        model={"name": "two_tower", "granularities": {"sizes": [4, 8]}},
        loss={"name": "bpr"},
    )
    other = recsys.train(settings, out=tmp_path / "run")
    printed = call("export", other, tmp_path / "out", "--tiers", "0:8:fp32:ram")
    assert "no user tower: TwoTower has no ONNX form" in printed
    bundle = load_bundle(tmp_path / "out")
    assert bundle.manifest.tower is None and "TwoTower" in bundle.manifest.no_tower
    model = recsys.load_run(other).model
    with torch.inference_mode():
        np.testing.assert_array_equal(
            bundle.items.decode(slice(None), 0, 8), model.item_vectors().numpy()
        )
    refused = call("export", other, tmp_path / "out", "--tower", code=1)
    assert "TwoTower has no ONNX form" in refused and "--no-tower" in refused


def test_tiers_that_end_early_leave_the_tower_out_and_warn_of_it(run, bundle, tmp_path, capsys):
    """Also in Python, where nothing else is printed, and of a bundle that has a tower."""
    printed = call("export", run, tmp_path / "out", "--tiers", "0:4:fp32:ram")
    assert "no user tower: the tiers end at 4 of 8 coordinates" in printed
    assert not list((tmp_path / "out").rglob("*.onnx"))
    with pytest.raises(DataError, match=r"no user tower \(the tiers end at 4 of 8"):
        UserTower(load_bundle(tmp_path / "out"))
    for source in (run, bundle.folder):
        recsys.export(source, tmp_path / "again", tiers="0:4:fp32:ram", users=False)
        warned = capsys.readouterr().err
        assert warned.startswith("warning: the tiers end at 4 of 8 coordinates")
        assert "cannot turn histories into user vectors" in warned and "--no-tower" in warned
        recsys.export(source, tmp_path / "again", tiers="0:4:fp32:ram", users=False, tower=False)
        assert "warning" not in capsys.readouterr().err


def test_parquet_is_written_by_default_tiers_too(run, tmp_path):
    """Default tiers are those the form can hold: nobody is told of a word they never typed."""
    out = tmp_path / "out"
    call("export", run, out, "--format", "parquet", "--no-tower", "--no-users")
    tiers = load_bundle(out).manifest.items.tiers
    assert {tier.residence for tier in tiers} == {"ram"} and tiers[-1].hi == 8
    again = tmp_path / "again"
    call("export", out, again, "--format", "parquet", "--no-tower", "--no-users")
    longer = recsys.load_run(run).model.granularities.model_copy(update={"sizes": (8, 32, 64)})
    assert default_tiers(longer, "parquet") == "0:32:int8:ram,32:64:fp16:ram"
    assert default_tiers(longer, "safetensors") == "0:32:int8:ram,32:64:fp16:mmap"


def test_routing_is_learned_on_validation_users_and_travels_in_the_bundle(run, tmp_path):
    out = tmp_path / "out"
    printed = call(
        "export", run, out, "--no-tower", "--tiers", "0:8:fp32:ram", "--stages", "4:15,8",
        "--route", 0.9,
    )  # fmt: skip
    entry = load_bundle(out).manifest.routing
    assert "of the validation users stop early" in printed
    assert "of 80 test users stop early, which keeps" in printed
    assert entry.kept >= 0.9 and len(entry.thresholds) == 1 and sum(entry.stopped) == 1
    funnel = open_funnel(load_bundle(out), threads=1)
    assert [stage.granularity for stage in funnel.stages] == [4, 8]
    queries = queries_of(recsys.load_run(run), "valid", None, None)
    widths = funnel.search(queries.users, 10, queries.filters).widths
    assert (widths == 4).mean() == pytest.approx(entry.stopped[0])
    plain = open_funnel(load_bundle(out), routed=False, threads=1)
    assert (plain.search(queries.users).widths == 8).all()
    with pytest.raises(ConfigError, match="routed for lists of 10, 5 are asked for"):
        open_funnel(load_bundle(out), k=5)
    for given, told in (((), "none are given"), (("--stages", "8"), "'8' is one")):
        refused = call("export", run, out, "--route", 0.9, *given, code=1)
        assert "at least two stages" in refused and told in refused and "None" not in refused


def test_what_a_routing_keeps_is_measured_on_users_it_was_not_learned_of(run, tmp_path):
    out = tmp_path / "out"
    options = {"tiers": "0:8:fp32:ram", "tower": False}
    options["stages"] = recsys.RoutedStages("4:15,8", keep=0.9)
    entry = load_bundle(recsys.export(run, out, **options)).manifest.routing
    queries = queries_of(recsys.load_run(run), "test", None, None)
    gains = []
    for routed in (False, True):
        funnel = open_funnel(load_bundle(out), routed=routed, threads=1)
        lists = funnel.search(queries.users, 10, queries.filters)
        ranks = ranks_in(lists.items, lists.scores, queries.targets, queries.offsets, 10)
        gains.append(ndcg(ranks, queries.offsets, (10,))[:, 0])
    known, found = paired_difference(*gains), entry.measured
    assert (found.kept, found.kept_low, found.kept_high, found.num_users) == pytest.approx(
        (known.ratio, known.ratio_low, known.ratio_high, len(queries))
    )


def test_a_routing_that_stops_everybody_is_exported_with_a_warning(run, tmp_path):
    options = ["--no-tower", "--tiers", "0:8:fp32:ram", "--stages", "4:15,8"]
    printed = call("export", run, tmp_path / "all", *options, "--route", 0.01)
    assert load_bundle(tmp_path / "all").manifest.routing.stopped == (1.0, 0.0)
    assert "warning: every validation user stops early" in printed
    assert "warning" not in call("export", run, tmp_path / "few", *options, "--route", 1)


def test_a_bundle_becomes_another_one_with_other_tiers(bundle, run, tmp_path):
    out, tiers = tmp_path / "again", "0:4:int8:ram,4:8:fp16:mmap"
    printed = call("export", bundle.folder, out, "--tiers", tiers, "--stages", "4:20,8")
    assert "user tower: ONNX" in printed and "whole" in call("verify", out)
    again, straight = load_bundle(out), recsys.export(run, tmp_path / "b", tiers=tiers, tower=False)
    for what in ("items", "users"):
        parts = getattr(load_bundle(straight), what), getattr(again, what)
        np.testing.assert_array_equal(*(part.decode(slice(None), 0, 8) for part in parts))
    assert again.manifest.model["tiers_before"] == ["0:4:fp32:ram", "4:8:fp32:mmap"]
    assert again.manifest.protocol == bundle.manifest.protocol
    users = UserTower(again, threads=1).user_vectors(*bundle.seen)
    assert users.shape == (len(again.ids("user")), 8)
    assert open_funnel(again, threads=1).search(users).items.shape == (len(users), 10)


def test_every_form_is_exported_by_the_verb(run, bundle, tmp_path):
    for form, residence in (("safetensors", "mmap"), ("parquet", "ram")):
        tiers = f"0:4:fp32:ram,4:8:fp32:{residence}"
        call("export", run, tmp_path / form, "--no-tower", "--tiers", tiers, "--format", form)
        other = load_bundle(tmp_path / form)
        np.testing.assert_array_equal(
            other.items.decode(slice(None), 0, 8), bundle.items.decode(slice(None), 0, 8)
        )
    assert "'pickle' is not among" in call("export", run, tmp_path, "--format", "pickle", code=1)
