"""``decision.json`` and ``reference.safetensors`` beside the models of a head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.rules import DecisionRules

_DECISION, _REFERENCE = "decision.json", "reference.safetensors"
_KEY, _VERSION = "patients", 1


@dataclass(frozen=True)
class Decision:
    """What a head decides.

    ``config``: what was wanted; ``rules``: fitted on the validation patients of all
    folds; ``fitted_on``: number of these; ``reference``: mean embeddings of the
    patients of training, float32 [P, D], None where they are not kept; ``bags``:
    identity of the bags that all of it is of.
    """

    config: DecisionConfig
    rules: DecisionRules
    fitted_on: int
    reference: np.ndarray | None = None
    bags: str = ""


def write_decision(head: Path, decision: Decision) -> None:
    """Write the files into the folder of a head; those that are there are replaced."""
    content = {
        "version": _VERSION,
        "config": decision.config.model_dump(mode="json"),
        "rules": decision.rules.state,
        "fitted_on_patients": decision.fitted_on,
        "bags": decision.bags,
    }
    (head / _DECISION).write_text(json.dumps(content, indent=2) + "\n")
    reference = head / _REFERENCE
    reference.unlink(missing_ok=True)
    if decision.reference is not None:
        save_file({_KEY: decision.reference}, reference)


def read_decision(head: Path) -> Decision | None:
    """What ``write_decision`` wrote; None in a head of an earlier version.

    Raises:
        InputError: it is of a later version.
    """
    path = head / _DECISION
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    if content["version"] != _VERSION:
        raise InputError(
            f"{path}: version {content['version']}, this package reads {_VERSION}: "
            "update the package"
        )
    reference = head / _REFERENCE
    return Decision(
        configs.validate(DecisionConfig, content["config"]),
        DecisionRules.restore(content["rules"]),
        content["fitted_on_patients"],
        load_file(reference)[_KEY] if reference.is_file() else None,
        content["bags"],
    )
