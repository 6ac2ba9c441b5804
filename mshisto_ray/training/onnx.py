"""Export of an encoder directory's network to ONNX, compared with the network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mshisto_ray.backbone.export import write_graph
from mshisto_ray.backbone.network import NetworkEncoder
from mshisto_ray.config import InputError
from mshisto_ray.encoders import read_encoder

ONNX_FILE = "encoder.onnx"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Share of the largest feature: float32 kernels may sum in another order.
_TOLERANCE = 1e-4
_COMPARED = 4


def check_onnx_packages() -> None:
    """Refuse a training whose encoder could not be exported at its end.

    Raises:
        InputError: a package that exports or runs ONNX is not installed.
    """
    missing = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(
            f"onnx: {', '.join(missing)} not installed: pip install "
            "'mshisto-ray[onnx]', or set onnx=false"
        )


def export_onnx(directory: Path, tile_px: int) -> float:
    """Write ``encoder.onnx`` into an encoder directory.

    The graph takes ``tiles``, uint8 [B, tile_px, tile_px, 3] RGB for any B, and gives
    ``embeddings``, float32 [B, D]: the input transform is inside.

    Args:
        directory: written by ``save_encoder``.
        tile_px: side of the tiles it will take.

    Returns:
        The largest difference from the network on random tiles, as a share of its
        largest feature.

    Raises:
        InputError: packages are missing, or the graph gives other embeddings.
    """
    check_onnx_packages()
    encoder = read_encoder("cpu", "float32", path=str(directory))
    temporary = directory / f".{ONNX_FILE}.tmp"
    example = torch.zeros(2, tile_px, tile_px, 3, dtype=torch.uint8)
    write_graph(_Graph(encoder).eval(), example, temporary, "tiles", "embeddings")
    generator = np.random.default_rng(0)
    shape = (_COMPARED, tile_px, tile_px, 3)
    tiles = generator.integers(0, 256, shape, dtype=np.uint8)
    wanted = encoder(tiles)
    apart = np.abs(_run(temporary, tiles) - wanted).max() / np.abs(wanted).max()
    if not apart <= _TOLERANCE:
        temporary.unlink()
        raise InputError(
            f"onnx: the exported graph differs from the network by {apart:.2g} of its "
            "largest feature; set onnx=false and use encoder.safetensors"
        )
    temporary.replace(directory / ONNX_FILE)
    return float(apart)


class _Graph(nn.Module):
    def __init__(self, encoder: NetworkEncoder):
        super().__init__()
        self.network = encoder.network
        self._features = encoder.features

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return self._features(tiles)


def _run(path: Path, tiles: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["embeddings"], {"tiles": tiles})
    return np.asarray(found)
