"""Forms of a tier's files: the same vectors come back, and other tools read them too."""

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from recsys.errors import ConfigError
from recsys.retrieval.bundle.array_files import FORMATS, check_format
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import write_bundle
from recsys.retrieval.codecs.registry import CODECS
from recsys.retrieval.funnel import Funnel, Stage
from tests.retrieval.bundles import source, vectors


def bundle_of(shelf, tiers, form, **options):
    made = source(**options)
    return load_bundle(write_bundle(shelf, made, parse_tiers(tiers, 32), form=form)), made


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_form_holds_the_same_arrays(tmp_path, codec, form):
    tiers = f"0:8:{codec}:ram,8:32:{codec}:ram"
    plain, _ = bundle_of(tmp_path / "raw", tiers, "raw")
    other, _ = bundle_of(tmp_path / "other", tiers, form)
    for a, b in zip(plain.items.parts, other.items.parts, strict=True):
        assert a.vectors.rows.keys() == b.vectors.rows.keys()
        for name, array in (a.vectors.rows | a.vectors.shared).items():
            read = (b.vectors.rows | b.vectors.shared)[name]
            assert array.dtype == read.dtype
            np.testing.assert_array_equal(array, read)
    np.testing.assert_array_equal(
        plain.users.decode(slice(None), 0, 32), other.users.decode(slice(None), 0, 32)
    )
    assert verify_bundle(other.folder) == []


@pytest.mark.parametrize("form", FORMATS)
def test_searches_do_not_depend_on_the_form(tmp_path, form):
    tiers = "0:8:int8:ram,8:32:fp16:ram"
    found = [
        Funnel(bundle_of(tmp_path / f, tiers, f, normalize=True)[0],
               [Stage(8, 50), Stage(32, 10)], threads=1).search(vectors(20, 32, 4))
        for f in ("raw", form)
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0].items, found[1].items)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


def test_a_tier_in_safetensors_is_mapped_and_opens_with_safetensors(tmp_path):
    bundle, _ = bundle_of(tmp_path / "a", "0:8:int8:ram,8:32:bf16:mmap", "safetensors")
    files = sorted(bundle.folder.glob("items/*/*"))
    assert [file.name for file in files] == ["tier.safetensors"] * 2
    with safe_open(files[0], "numpy") as opened:
        assert set(opened.keys()) == {"codes", "scales"}
        decoded = opened.get_tensor("codes") * opened.get_tensor("scales")[:, None]
    np.testing.assert_allclose(decoded, bundle.items.decode(slice(None), 0, 8), rtol=1e-6)
    values = load_file(files[1])["values"]
    assert str(values.dtype) == "torch.bfloat16"
    np.testing.assert_array_equal(values.float().numpy(), bundle.items.decode(slice(None), 8, 32))
    mapped = bundle.items.parts[1].vectors.rows["values"]
    assert isinstance(mapped, np.memmap) or isinstance(mapped.base, np.memmap)


def test_a_tier_in_parquet_is_a_table_with_the_external_ids(tmp_path):
    bundle, made = bundle_of(tmp_path / "a", "0:32:fp32:ram", "parquet")
    (file,) = bundle.folder.glob("items/*/tier.parquet")
    frame = pl.read_parquet(file)
    assert frame.columns == ["item_id", "values"]
    assert frame["item_id"].to_list() == made.item_ids.to_list()
    np.testing.assert_array_equal(frame["values"].to_numpy(), made.items)


def test_many_blocks_are_written_to_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.retrieval.codecs.base.BLOCK", 64)
    bundle, made = bundle_of(tmp_path / "a", "0:32:fp32:ram", "parquet")
    np.testing.assert_array_equal(bundle.items.decode(slice(None), 0, 32), made.items)


def test_parquet_cannot_be_mapped_and_unknown_forms_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"8:32:fp16:mmap cannot be mapped from parquet"):
        bundle_of(tmp_path / "a", "0:8:int8:ram,8:32:fp16:mmap", "parquet")
    assert not (tmp_path / "a" / "current").exists()
    with pytest.raises(ConfigError, match="'pickle' is not among raw, safetensors, parquet"):
        check_format("pickle")
