"""A published network by its recipe: a file here, or one of the user's own."""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.taking import Take
from mshisto_ray.backbone.weights import (
    find_weights,
    first_sentence,
    quiet_download,
)
from mshisto_ray.config import InputError, Weights
from mshisto_ray.encoders import onnx
from mshisto_ray.encoders._build import build_network
from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.encoders._parameters import LocalPath
from mshisto_ray.encoders._recipe import Recipe, read_recipe


def build(
    device: str,
    precision: Precision,
    *,
    path: LocalPath,
    weights: Weights | None = None,
    take: Take | None = None,
) -> Encoder:
    """Build the encoder of a recipe.

    Args:
        device: where it runs.
        precision: of the forward pass.
        path: YAML file of the recipe.
        weights: a local file or the directory with it, or ``pretrained`` (downloaded
            from Hugging Face). Without it the error says where it is had.
        take: what is the embedding, in place of what the recipe says.

    Raises:
        InputError: not a recipe, no weights, or weights of another network.
    """
    recipe = read_recipe(Path(path))
    name = Path(path).stem
    file = _weights_file(name, recipe, weights)
    wanted = recipe.take if take is None else take
    if recipe.network is None:
        if wanted != "pooled":
            raise InputError(f"encoder: {name}: a graph has no tokens: leave out take")
        given = recipe.input.model_dump()
        encoder: Any = onnx.build(device, precision, path=str(file), **given)
    else:
        encoder = build_network(recipe, file, wanted, device, precision)
    encoder.warnings = tuple(
        f"{name}: no source confirms {doubt}" for doubt in recipe.unconfirmed
    )
    if wanted == recipe.take and encoder.dim != recipe.width:
        raise InputError(
            f"encoder: {file} gives {encoder.dim} values a tile, recipe {name} says "
            f"{recipe.width}: is it {recipe.title}? See {recipe.weights.address}; in a "
            "recipe of your own, correct width or take"
        )
    return encoder


@functools.cache
def of_file(path: Path) -> ModuleType:
    """A part of the family whose recipe is a file, named after it."""

    def build_recipe(
        device: str,
        precision: Precision,
        *,
        weights: Weights | None = None,
        take: Take | None = None,
    ) -> Encoder:
        return build(device, precision, path=str(path), weights=weights, take=take)

    made: Any = ModuleType(f"{__package__}.recipes.{path.stem}")
    made.build = build_recipe
    made.SUMMARY = f"  # {read_recipe(path).summary()}"
    return made


def _weights_file(name: str, recipe: Recipe, weights: str | None) -> Path:
    """The weights file, downloaded if wanted."""
    if weights == "pretrained":
        return _download(name, recipe)
    if weights is not None and Path(weights).exists():
        return find_weights(Path(weights), recipe.weights.files)
    given = "no weights given" if weights is None else f"no weights at {weights}"
    accept = "accept its terms there, " if recipe.weights.gated else ""
    raise InputError(
        f"encoder: {name}: {given}; {recipe.title} ({recipe.conditions()}) is at "
        f"{recipe.weights.address}: {accept}copy {_files(recipe)} and give "
        f"encoder='{{name: {name}, weights: PATH}}'"
    )


def _files(recipe: Recipe) -> str:
    return " or ".join(recipe.weights.files) or "the weights"


def _download(name: str, recipe: Recipe) -> Path:
    """The first file that the hub has, in its cache."""
    source = recipe.weights
    if source.hub is None or not source.files:
        raise InputError(
            f"encoder: {name}: weights=pretrained: no hub has them; copy "
            f"{_files(recipe)} from {source.address} and give weights: PATH"
        )
    from huggingface_hub import hf_hub_download

    try:
        with quiet_download():
            return Path(hf_hub_download(source.hub, source.files[0]))
    except Exception as error:  # of any library between here and the server
        accept = "accept its terms and log in there, or " if source.gated else ""
        raise InputError(
            f"encoder: {name}: weights=pretrained: cannot be downloaded "
            f"({first_sentence(error)}): {accept}copy {_files(recipe)} from "
            f"{source.address} and give weights: PATH"
        ) from None
