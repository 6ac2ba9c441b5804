"""A recipe: how a published network is built, fed and read, as a YAML file says."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from mshisto_ray.backbone.attention_pooling import AttentionKind
from mshisto_ray.backbone.names import Names
from mshisto_ray.backbone.taking import Take
from mshisto_ray.backbone.transform import Fit, InputTransform, Interpolation
from mshisto_ray.config import Config, InputError, option, read_yaml, validate
from mshisto_ray.encoders._parameters import Channels

RECIPES = Path(__file__).parent / "recipes"


class AttentionSpec(Config):
    """One learned query that reads the tokens of the network."""

    kind: AttentionKind
    width: int = option(ge=1)
    heads: int = option(ge=1)


class NetworkSpec(Config):
    """A network of timm."""

    model: str = option(text="timm's name")
    options: dict[str, Any] = option({}, "of its constructor; layers by name")
    attention: AttentionSpec | None = option(None, "what reads its tokens; null: none")
    names: Names = option("auto", "that the published weights have")
    shapes: str | None = option(None, "digest of its weights' names and shapes")


class InputSpec(Config):
    """What the network takes."""

    size: int = option(text="side", unit="px", ge=16)
    mean: Channels = option(text="per channel, on 0 to 1")
    std: Channels = option(text="per channel, on 0 to 1")
    fit: Fit = option("resize", "of tiles of another size")
    interpolation: Interpolation = option(None, "bilinear or bicubic, on 8 bits")
    resize_to: int | None = option(None, "before the crop of resize_crop", unit="px")

    def transform(self) -> InputTransform:
        """As networks apply it."""
        return InputTransform(**self.model_dump())


class WeightsSpec(Config):
    """Where the weights are had, and under what conditions."""

    address: str
    licence: str
    gated: bool = option(text="true: the terms must be accepted there before")
    files: tuple[str, ...] = option((), "names that the file has there, best first")
    hub: str | None = option(None, "repository of Hugging Face; null: none is known")


class Recipe(Config):
    """A published network."""

    title: str
    library: Literal["timm", "onnx"] = "timm"
    network: NetworkSpec | None = option(None, "of timm; null: the ONNX file holds it")
    input: InputSpec
    take: Take = option("pooled", "what is the embedding")
    width: int = option(text="of the embedding", ge=1)
    parameters: float | None = option(
        None, "as published; null: not", unit="millions", gt=0
    )
    mpp: tuple[float, ...] = option((), "trained at or recommended", unit="um/px")
    weights: WeightsSpec
    sources: tuple[str, ...] = option(text="of the numbers", min_length=1)
    disagree: tuple[str, ...] = option((), "what two sources say otherwise")
    unconfirmed: tuple[str, ...] = option((), "what no source at hand confirms")

    @model_validator(mode="after")
    def _has_a_network(self) -> Recipe:
        if (self.network is None) != (self.library == "onnx"):
            raise ValueError("network is given for library: timm, and only for it")
        return self

    def conditions(self) -> str:
        """Licence and gating in a few words."""
        return self.weights.licence + (", gated" if self.weights.gated else "")

    def summary(self) -> str:
        """What ``--help`` says of it."""
        scales = "/".join(f"{mpp:g}" for mpp in self.mpp)
        trained = f", {scales} um/px" if scales else ""
        doubt = "; not confirmed in part" if self.unconfirmed else ""
        return f"{self.title}: {self.width}-d{trained}; {self.conditions()}{doubt}"


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


@functools.cache
def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        InputError: no such file, or not a recipe; every problem is listed.
    """
    try:
        return validate(Recipe, read_yaml(path))
    except InputError as error:
        lines = "; ".join(str(error).splitlines())
        raise InputError(f"encoder: recipe {path}: {lines}") from None
