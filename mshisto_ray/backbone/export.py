"""A network as a graph in an ONNX file, which other libraries run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mshisto_ray.backbone.network import NetworkEncoder, pooled_features
from mshisto_ray.store.temporary import temporary_beside

INPUT, OUTPUT = "pixels", "embedding"
_FILE = "encoder.onnx"
# A file of protobuf holds 2 GiB; larger weights lie beside it.
_MOST_BYTES = 1_500_000_000


def export_network(encoder: NetworkEncoder, tile_px: int, folder: Path) -> Path:
    """Write the graph of an encoder's network into a folder, unless it is there.

    The graph takes ``pixels``, float32 [B, 3, H, W] after the encoder's input
    transform of tiles of ``tile_px``, for any B, and gives ``embedding`` [B, D].
    The folder appears at once, whole: several workers may write it.

    Raises:
        Exception: of many classes: torch cannot export the network.
    """
    path = folder / _FILE
    if path.is_file():
        return path
    tile = torch.from_numpy(np.zeros((1, tile_px, tile_px, 3), np.uint8))
    example = encoder.transform.apply(tile).contiguous().repeat(2, 1, 1, 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    temporary.mkdir()
    try:
        graph = _Features(encoder.network).eval()
        write_graph(graph, example, temporary / _FILE, INPUT, OUTPUT)
        os.rename(temporary, folder)
    except OSError:
        if not path.is_file():  # else another worker was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def write_graph(
    graph: nn.Module, example: torch.Tensor, path: Path, given: str, made: str
) -> None:
    """Export a module of one input and one output, for any number of rows.

    Args:
        graph: its ``forward`` names its parameter as ``given``.
        example: input of two rows.
        path: file to write.
        given: name of the input.
        made: name of the output.
    """
    num_bytes = sum(p.numel() * p.element_size() for p in graph.parameters())
    torch.onnx.export(
        graph,
        (example,),
        path,
        input_names=[given],
        output_names=[made],
        dynamic_shapes={given: {0: torch.export.Dim("batch")}},
        external_data=num_bytes > _MOST_BYTES,
        verbose=False,
        dynamo=True,
    )


class _Features(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled_features(self.network, pixels)
