"""A graph in an ONNX file: networks of TensorFlow, Keras, JAX or any other origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mshisto_ray.backbone.graph import (
    GraphEncoder,
    choose_output,
    graph_digest,
    open_graph,
    read_input,
)
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.transform import Fit, InputTransform, Interpolation
from mshisto_ray.config import InputError
from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.encoders._parameters import Channels, LocalPath, Pixels


def build(
    device: str,
    precision: Precision,
    *,
    path: LocalPath,
    mean: Channels | None = None,
    std: Channels | None = None,
    size: Pixels | None = None,
    fit: Fit = "as_is",
    interpolation: Interpolation = None,
    resize_to: Pixels | None = None,
    output: str | None = None,
) -> Encoder:
    """Build the encoder of a graph, whose layout and type of input are read from it.

    Args:
        device: where it runs.
        precision: has no effect: a graph has its own.
        path: ONNX file; data files of large networks lie beside it.
        mean: input mean per channel on 0 to 1; not for a graph that takes uint8.
        std: input standard deviation, likewise. An input on [-1, 1] has mean and std
            0.5; one on 0 to 1 has 0 and 1; one on 0 to 255 has 0 and 0.00392156862745.
        size: input size in px for ``resize`` and ``crop``; the graph's if it has one.
        fit: whether tiles enter as they are, resized, cropped, or both.
        interpolation: of resizing; see ``InputTransform``.
        resize_to: px before the crop of ``resize_crop``.
        output: name of the output that is the embedding; needed if there are several.

    Raises:
        InputError: no such file, or a graph that is not of images to vectors.
    """
    file = Path(path)
    session = open_graph(file, device)
    takes = read_input(session, file)
    if (takes.dtype is np.uint8) != (mean is None) or (mean is None) != (std is None):
        raise InputError(
            f"encoder: {file} takes {takes.dtype.__name__}: "
            + (
                "mean and std are inside it, leave them out"
                if takes.dtype is np.uint8
                else "give mean and std (0.5 and 0.5 per channel for [-1, 1])"
            )
        )
    if fit != "as_is" and not (size or takes.size):
        raise InputError(f"encoder: {file} takes any size: fit: {fit} needs size")
    transform = InputTransform(
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1 / 255, 1 / 255, 1 / 255),
        size=size or takes.size or 0,
        fit=fit,
        interpolation=interpolation,
        resize_to=resize_to,
    )
    chosen = choose_output(session, output)
    described = {"transform": transform.describe(), "output": chosen}
    digest = graph_digest(file, described)
    step = {"step": None} if device.startswith("cuda") else {}
    return GraphEncoder(file, session, takes, chosen, transform, digest, **step)
