"""The page of the bundle format: its snippets read bundles as recsys does, without recsys."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.files.onnx_sessions import open_session
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, UserSource, write_bundle
from recsys.retrieval.codecs.registry import CODECS
from recsys.retrieval.funnel import Funnel, Stage
from recsys.serving.item_tower import open_item_tower
from recsys.serving.user_tower import UserTower
from tests.examples.conftest import WIDTH

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bundle-format.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
NUM_ITEMS, NUM_USERS, DIM = 300, 7, 24
TIERS = [
    f"0:8:{codec}:ram,8:24:{codec}:ram" for codec in (*CODECS, "pq4", "pq1x4", "pq8x4", "sparse3")
]
ODD = [f"0:5:{codec}:ram,5:24:fp16:ram" for codec in ("int4", "int2", "binary", "pq5x4")]


def source(*, normalize, interests=1):
    rng = np.random.default_rng(7)
    each = (NUM_USERS, DIM) if interests == 1 else (NUM_USERS, interests, DIM)
    users = UserSource(
        vectors=rng.normal(size=each).astype(np.float32),
        ids=pl.Series([f"user {u}" for u in range(NUM_USERS)]),
        seen_items=np.empty(0, np.int32),
        seen_offsets=np.zeros(NUM_USERS + 1, np.int64),
    )
    return BundleSource(
        items=rng.normal(size=(NUM_ITEMS, DIM)).astype(np.float32),
        item_ids=pl.Series(np.arange(NUM_ITEMS)),
        sizes=(8, 24),
        normalize=normalize,
        users=users,
        interests=interests,
    )


def read_by_the_page(place, monkeypatch):
    """What the page's snippets define, run in `place`; the last one needs a tower."""
    monkeypatch.chdir(place)
    names = {}
    for text in SNIPPETS:
        if "inputs = " not in text:
            exec(compile(text, PAGE.name, "exec"), names)
    return names


def check(place, names):
    bundle = load_bundle(place / "bundles/beauty")
    assert np.array_equal(names["items"], bundle.items.decode(slice(None), 0, DIM))
    for size in bundle.sizes:
        found = Funnel(bundle, [Stage(size, NUM_ITEMS)]).search(names["users"])
        told = names["scores"](names["users"], size)
        told = np.take_along_axis(told, found.items, axis=1)
        assert np.allclose(told, found.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tiers", TIERS + ODD)
def test_every_codec_is_read_as_the_page_says(tiers, tmp_path, monkeypatch):
    specs = parse_tiers(tiers, DIM)
    write_bundle(tmp_path / "bundles/beauty", source(normalize=True), specs)
    check(tmp_path, read_by_the_page(tmp_path, monkeypatch))


@pytest.mark.parametrize("form", ["raw", "safetensors", "parquet"])
def test_every_form_of_files_is_read_as_the_page_says(form, tmp_path, monkeypatch):
    specs = parse_tiers("0:8:pq4x4:ram,8:24:int8:ram", DIM)
    write_bundle(tmp_path / "bundles/beauty", source(normalize=False), specs, form=form)
    check(tmp_path, read_by_the_page(tmp_path, monkeypatch))


@pytest.mark.parametrize("normalize", [False, True])
def test_users_of_several_vectors_are_read_as_the_page_says(normalize, tmp_path, monkeypatch):
    specs = parse_tiers("0:8:int8:ram,8:24:fp16:ram", DIM)
    made = source(normalize=normalize, interests=3)
    write_bundle(tmp_path / "bundles/beauty", made, specs)
    names = read_by_the_page(tmp_path, monkeypatch)
    assert names["users"].shape == (NUM_USERS, 3, DIM)
    check(tmp_path, names)


def test_the_tower_takes_the_inputs_of_the_page(place, monkeypatch):
    monkeypatch.chdir(place)
    names = {}
    for text in SNIPPETS:
        exec(compile(text, PAGE.name, "exec"), names)
    bundle = load_bundle(place / "bundles/beauty")
    session = open_session(str(bundle.folder / bundle.manifest.tower.file))
    (users,) = session.run(None, names["inputs"])
    wanted = UserTower(bundle).user_vectors(np.array([3, 1, 4, 1, 5]), np.array([0, 3, 5]))
    assert np.allclose(users, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
def test_new_items_get_their_vectors_as_the_page_says(fusion, place, tmp_path, monkeypatch):
    if fusion == "projection":
        given = place / "runs/beauty_content/config.yaml"
        run = recsys.train(given, ["model.items.fusion=projection"], out=tmp_path / "run")
        recsys.export(run, tmp_path / "bundles/beauty", tower=False)
        place = tmp_path
    monkeypatch.chdir(place)
    names = {}
    for text in SNIPPETS:
        if "inputs = " not in text:
            exec(compile(text, PAGE.name, "exec"), names)
    encoded = np.random.default_rng(3).normal(size=(5, WIDTH)).astype(np.float32)
    order, tower = names["open_tower"]()
    told = names["new_items"](order, tower, {"text": names["of_vectors"](tower, "text", encoded)})
    assert np.allclose(
        told, open_item_tower(place / "bundles/beauty").vectors({"text": encoded}), atol=1e-5
    )


def test_the_page_names_every_field_of_the_manifest_and_every_codec():
    from recsys.retrieval.bundle.manifest import BundleManifest

    text = PAGE.read_text("utf-8")
    assert all(f"| `{field}` |" in text for field in BundleManifest.model_fields)
    assert all(f"`{codec}`" in text for codec in CODECS)


def test_the_snippets_do_not_import_recsys():
    assert len(SNIPPETS) >= 5 and not re.search(r"(import|from) recsys", "\n".join(SNIPPETS))
