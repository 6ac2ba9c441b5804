"""The engine of an encoder: the library that runs its network, and how precisely."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mshisto_ray.backbone.export import INPUT, OUTPUT, export_network
from mshisto_ray.backbone.graph import GraphEncoder, GraphInput, open_graph
from mshisto_ray.backbone.network import NetworkEncoder
from mshisto_ray.backbone.openvino_session import OpenVinoSession
from mshisto_ray.backbone.precision import Precision, has_bfloat16
from mshisto_ray.config import InputError

Engine = Literal["torch", "onnxruntime", "openvino"]
_NEEDS = {"torch": (), "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
# What writes the graph of a network.
_EXPORTERS = ("onnx", "onnxscript")


@dataclass(frozen=True)
class Pair:
    """An engine and its precision; ``engine`` None: the encoder's own."""

    engine: Engine | None = None
    precision: Precision = "float32"

    def __str__(self) -> str:
        return f"{self.engine or 'own engine'} {self.precision}"


# Of an encoder as it is built.
OWN = Pair()


def own_engine(encoder: object) -> Engine | None:
    """The engine that an encoder runs on as it is built; None: it has no network."""
    if isinstance(encoder, NetworkEncoder):
        return "torch"
    return "onnxruntime" if isinstance(encoder, GraphEncoder) else None


def missing_packages(encoder: object, engine: Engine) -> list[str]:
    """What has to be installed before an encoder can run on an engine."""
    needed = list(_NEEDS[engine])
    if engine != "torch" and own_engine(encoder) == "torch":
        needed += _EXPORTERS
    return [name for name in needed if not importlib.util.find_spec(name)]


def check_engine(encoder: object, engine: Engine) -> None:
    """Raise InputError where an encoder cannot run on an engine."""
    own = own_engine(encoder)
    if own is None:
        raise InputError(f"engine: this encoder has no network for {engine}: auto")
    if engine == "torch" and own != "torch":
        raise InputError(
            "engine: torch does not run a graph of ONNX: take onnxruntime, openvino or "
            "auto"
        )
    missing = missing_packages(encoder, engine)
    if missing:
        raise InputError(
            f"engine: {engine} needs {', '.join(missing)}: pip install "
            "'mshisto-ray[onnx,openvino]', or take engine: auto"
        )


def candidates(encoder: object, device: str) -> list[Pair]:
    """Pairs to try beside the encoder's own engine in float32, on this machine."""
    own = own_engine(encoder)
    if device.startswith("cuda"):
        if own != "torch":
            return []
        found: list[Precision] = ["float16"]
        # GPUs that multiply bfloat16 are those that have tf32.
        if has_bfloat16(device):
            found.extend(("bfloat16", "tf32"))
        return [Pair("torch", precision) for precision in found]
    pairs = [Pair("openvino", "float32"), Pair("onnxruntime", "float32")]
    if has_bfloat16(device):
        pairs += [Pair("openvino", "bfloat16"), Pair("torch", "bfloat16")]
    return [pair for pair in pairs if own and _runs(encoder, pair)]


def _runs(encoder: object, pair: Pair) -> bool:
    assert pair.engine
    own = own_engine(encoder)
    if pair.engine == own:
        return own == "torch" and pair.precision != "float32"
    return pair.engine != "torch" and not missing_packages(encoder, pair.engine)


def on_engine(encoder: Any, pair: Pair, device: str, graph: Path, tile_px: int) -> Any:
    """An encoder on another engine: the same digest, input transform and width.

    Args:
        encoder: built for the device, in the pair's precision if it stays as it is.
        pair: engine and precision.
        device: where it runs.
        graph: folder of the graph that is made of a network; an existing one is used.
        tile_px: side of the tiles.

    Raises:
        InputError: the engine does not run here.
        Exception: of many classes: the network cannot be exported.
    """
    if pair.engine in (None, own_engine(encoder)):
        return encoder
    check_engine(encoder, pair.engine)
    if device.startswith("cuda"):
        raise InputError(
            f"engine: {pair.engine} runs on CPUs: take engine: torch, or runtime.gpus=0"
        )
    if isinstance(encoder, GraphEncoder):
        path, takes, output = encoder.path, encoder.takes, encoder.output
    else:
        path, output = export_network(encoder, tile_px, graph), OUTPUT
        tile = torch.zeros(1, tile_px, tile_px, 3, dtype=torch.uint8)
        side = encoder.transform.apply(tile).shape[-1]
        takes = GraphInput(INPUT, False, np.float32, side, None)
    if pair.engine == "openvino":
        session = OpenVinoSession(path, pair.precision, torch.get_num_threads())
        takes = dataclasses.replace(takes, batch=takes.batch or 1)
    else:
        session = open_graph(path, device)
    moved = GraphEncoder(
        path, session, takes, output, encoder.transform, encoder.digest
    )
    moved.warnings = encoder.warnings
    return moved
