"""Whether weights under timm's name are those of a recipe that has another input."""

from __future__ import annotations

from torch import nn

from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError
from mshisto_ray.encoders._build import shapes_of
from mshisto_ray.encoders._recipe import RECIPES, Recipe, names, read_recipe


def check_input(
    network: nn.Module, model: str, transform: InputTransform
) -> tuple[str, ...]:
    """Compare the input with that of the recipes whose weights have the same shapes.

    timm knows one mean and deviation for a name, whoever trained the weights.

    Returns:
        Warnings: some of the recipes have another mean or deviation.

    Raises:
        InputError: all of them have.
    """
    matching = _matching(network)
    other = [
        name
        for name, recipe in matching.items()
        if (recipe.input.mean, recipe.input.std) != (transform.mean, transform.std)
    ]
    if not other:
        return ()
    first = other[0]
    text = (
        f"encoder: these weights have the shapes of {', '.join(other)}, whose input is "
        f"not timm's for {model} (mean {list(transform.mean)}, std "
        f"{list(transform.std)}): if they are of one of these, give "
        f"encoder='{{name: {first}, weights: PATH}}'; else give mean and std"
    )
    if len(other) == len(matching):
        raise InputError(text)
    return (text.removeprefix("encoder: "),)


def _matching(network: nn.Module) -> dict[str, Recipe]:
    """Recipes whose network has the same weights by name and shape."""
    wanted = shapes_of(network)
    recipes = {name: read_recipe(RECIPES / f"{name}.yaml") for name in names()}
    return {
        name: recipe
        for name, recipe in recipes.items()
        if recipe.network is not None and recipe.network.shapes == wanted
    }
