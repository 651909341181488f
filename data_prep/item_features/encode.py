"""`recsys encode`: vectors of item texts or pictures by a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.item_features.encoding import Job, run
from data_prep.item_features.text_inputs import TextInputs
from recsys.data.features.manifest import FeatureManifest
from recsys.errors import ConfigError
from recsys.extras import require

MODALITIES = ("text", "image")
_TEXT_BATCH = 512
"""The encoder sorts these by length and pads each 64 of them; progress is kept after each."""
_IMAGE_BATCH = 64


def encode_text(
    folder: str | Path,
    *,
    name: str = "text",
    model: str | Path | None = None,
    columns: Sequence[str] = (),
    batch_size: int = _TEXT_BATCH,
) -> FeatureManifest:
    """Encodes the items' content columns and writes the vectors as a feature; goes on if killed.

    Args:
        folder: the dataset folder.
        name: what the feature shall be called.
        model: a sentence-transformers folder or name on the hub; default: a packaged MiniLM.
        columns: joined in this order; default: title, brand, categories ... where they are.
        batch_size: texts between two savings of progress.

    Raises:
        InstallationError: the extra `text` is not installed.
        DataError: the columns or the model are not there, or no item has text.
    """
    from data_prep.item_features.text_encoder import TextEncoder

    inputs = TextInputs(Path(folder), columns)
    return run(Job(Path(folder), name, TextEncoder(model), inputs, batch_size))


def encode_images(
    folder: str | Path,
    *,
    name: str = "image",
    model: str | Path | None = None,
    images: str | Path | None = None,
    url_column: str | None = None,
    cache: str | Path | None = None,
    batch_size: int = _IMAGE_BATCH,
) -> FeatureManifest:
    """Encodes a picture of each item and writes the vectors as a feature; goes on if killed.

    A picture that is broken or cannot be fetched is skipped, counted and named in the manifest.

    Args:
        folder: the dataset folder.
        name: what the feature shall be called.
        model: an .onnx file or a folder of timm; default: a packaged EfficientNet-Lite0.
        images: a folder, zip or tar file with pictures called ITEM_ID.jpg (png, webp ...).
        url_column: instead, the content column with their addresses.
        cache: where downloaded pictures are kept; default `~/.cache/recsys/images`.
        batch_size: pictures in memory at once, and between two savings of progress.

    Raises:
        InstallationError: the extra `image` is not installed.
        ConfigError: not exactly one of images and url_column is given.
        DataError: the model or the pictures are not there, or most pictures are broken.
        DownloadError: of the first pictures, none can be fetched.
    """
    require("image", "torch", "PIL")
    from data_prep.item_features.image_encoder import load_image_encoder
    from data_prep.item_features.image_inputs import image_files
    from data_prep.item_features.image_urls import image_urls

    if (images is None) == (url_column is None):
        raise ConfigError(
            "pictures come from a single source: give --images PATH (called ITEM_ID.jpg) or "
            "--url-column NAME"
        )
    encoder = load_image_encoder(model)
    if images is not None:
        inputs = image_files(Path(folder), Path(images))
    else:
        place = Path(cache) if cache is not None else Path.home() / ".cache" / "recsys" / "images"
        inputs = image_urls(Path(folder), str(url_column), place)
    return run(Job(Path(folder), name, encoder, inputs, batch_size))
