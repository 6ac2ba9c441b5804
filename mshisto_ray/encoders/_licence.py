"""The licence of an encoder's weights, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.encoders._recipe import RECIPES, names, read_recipe


def licence_of(encoder: Mapping[str, Any]) -> str:
    """In a few words; empty where it is not known.

    Args:
        encoder: name and parameters, as a config has them.
    """
    name = encoder.get("name")
    if name in names():
        return read_recipe(RECIPES / f"{name}.yaml").conditions()
    if name == "recipe" and Path(str(encoder.get("path"))).is_file():
        return read_recipe(Path(encoder["path"])).conditions()
    if name == "colour_stats" or encoder.get("weights") == "random":
        return "no weights"
    if name == "timm" and encoder.get("weights") == "pretrained":
        import timm  # takes longer to import than torch, and most commands do without

        known = timm.get_pretrained_cfg(str(encoder["model"]))
        return (known.license or "") if known else ""
    return ""
