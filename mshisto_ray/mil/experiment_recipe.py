"""The recipe of a MIL experiment: what its result depends on, and its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mshisto_ray.mil.experiment_keys import ExperimentKeys
from mshisto_ray.mil.fit.config import NOISES
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.representation.preparation import by_content

# Where the data are (their digests count), and what is fitted on results of training
# and changes none.
_NO_RESULT = {
    *("embeddings", "cohort", "columns", "bags", "scale", "scales", "views", "colour"),
    *("runtime", "decision"),
}
_BEFORE = {"tiles_per_epoch": None, "draws": "all", "mixup": 0.0, "clip": None}


def recipe(config: ExperimentKeys, bags: Bags) -> dict[str, Any]:
    """The settings and data digests that decide the result; no paths."""
    names = set(ExperimentKeys.model_fields)
    settings = config.model_dump(mode="json", include=names - _NO_RESULT)
    settings["target"] = bags.kind.settings
    settings["noise"] = by_content(NOISES, config.noise)
    if config.early_stopping:
        settings["early_stopping"] |= {"trained": bags.kind.learned}
    _drop_what_came_later(settings)
    scale = bags.scales or bags.scale
    return settings | {"scale": scale, "data": bags.identity}


def _drop_what_came_later(settings: dict[str, Any]) -> None:
    """Leave out keys at the values that all results had before the keys came.

    So these results keep their digests, and are not trained again.
    """
    for name, value in _BEFORE.items():
        if settings[name] == value:
            del settings[name]
    optimiser = settings["optimiser"]
    if optimiser["schedule"] == "constant" and not optimiser["warmup_steps"]:
        del optimiser["schedule"], optimiser["warmup_steps"]
    if settings["split"]["group"] is None:
        del settings["split"]["group"]
    if settings["vote"] and not settings["vote"]["together"]:
        del settings["vote"]["together"]
    if settings["reduction"]["name"] == "none":
        del settings["reduction"]


def digest(config: ExperimentKeys, bags: Bags) -> str:
    """Digest of the recipe: experiments with the same one have the same result."""
    text = json.dumps(recipe(config, bags), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
