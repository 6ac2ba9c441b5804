"""A saved head: the fold models of one config, in one directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.files import Decision, read_decision
from mshisto_ray.learning.targets import FittedTarget, Target, restore_target
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import build_model
from mshisto_ray.mil.fit.vote import VoteConfig
from mshisto_ray.representation.normalise import Reduced, Standardisation
from mshisto_ray.representation.preparation import reduction_of
from mshisto_ray.store.temporary import temporary_beside

VERSION = 2  # of ``model.json``
_REFIT = "refit"
FITTED, REFIT_FITTED = "fitted", "refit_fitted"
INSTANCES = "instances"


@dataclass(frozen=True)
class HeadSignature:
    """What the models of a head take and predict."""

    dims: tuple[int, ...]
    classes: tuple[str, ...]
    kind: Target


@dataclass(frozen=True)
class HeadModel:
    """One model of a head; ``repeat`` and ``fold`` are None for the refit."""

    repeat: int | None
    fold: int | None
    model: nn.Module
    standardisation: Standardisation
    fitted: FittedTarget


@dataclass(frozen=True)
class Head:
    """Models of one config.

    ``folds``: test fold of each patient in each repeat, for every patient that a
    model may have seen (-1: all models have, in a given split); ``dims``: widths of
    embeddings, coarsest scale first; ``scales``: None if an instance has one;
    ``encoder``: name and digest of the tiles' encoder (by scale, if there are several),
    None for a bag table; ``about``: the content of ``model.json``; ``kind``: the
    target, whose names are ``classes``; ``decision``: None in a head of an earlier
    version, and where none was fitted; ``of_tiles``: likewise, of single tiles.
    """

    classes: tuple[str, ...]
    dims: tuple[int, ...]
    scale: float | None
    scales: tuple[float, ...] | None
    encoder: Mapping[str, Any] | None
    vote: VoteConfig | None
    folds: Mapping[str, Sequence[int]]
    models: tuple[HeadModel, ...]
    about: Mapping[str, Any]
    kind: Target
    decision: Decision | None = None
    of_tiles: Decision | None = None

    @property
    def tile_px(self) -> tuple[int | None, ...]:
        """Side of the tiles of each scale or view; empty where it is not recorded."""
        return tuple(self.about.get("tile_px", ()))

    def encoder_at(self, mpp: float) -> Mapping[str, Any]:
        """Name, digest and colour of the encoder of a scale's tiles."""
        assert self.encoder is not None
        return self.encoder[str(mpp)] if self.scales else self.encoder

    def models_for(self, patient_id: str) -> list[int]:
        """Return the places of the models that may predict a patient.

        Of a patient that took part in training, those that were trained and chosen
        without it; of any other, the refit or, where there is none, all.
        """
        seen = self.folds.get(patient_id)
        refit = [i for i, model in enumerate(self.models) if model.fold is None]
        if seen is None:
            return refit or list(range(len(self.models)))
        return [
            i
            for i, model in enumerate(self.models)
            if model.repeat is not None and seen[model.repeat] == model.fold
        ]


def write_head(path: Path, head: Head) -> None:
    """Write ``model.json`` and a safetensors file per model; whole or not at all.

    ``path``: directory; an existing one is replaced.
    """
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for model in head.models:
        file = temporary / _file_name(model.repeat, model.fold)
        _save(file, model.model, model.standardisation)
    (temporary / "model.json").write_text(json.dumps(head.about, indent=2) + "\n")
    shutil.rmtree(path, ignore_errors=True)
    os.rename(temporary, path)


def load_head(path: Path) -> Head:
    """Read a head that ``write_head`` wrote.

    Raises:
        InputError: not a head, or one of another version.
    """
    about = path / "model.json"
    if not about.is_file():
        raise InputError(f"{path}: no model.json; this is not a head")
    content = json.loads(about.read_text())
    if content.get("version") != VERSION:
        raise InputError(
            f"{path}: head version {content.get('version')}, this package reads "
            f"{VERSION}; train it again"
        )
    if content["scales"] and content.get(INSTANCES) != "own":
        raise InputError(
            f"{path}: this head of several scales is of an earlier version, whose bags "
            "held coarse tiles with hardly any tissue, too; train it again"
        )
    config = configs.validate(TrainConfig, content["config"])
    dims, classes = tuple(content["dims"]), tuple(content["classes"])
    kind = restore_target(content.get("target", {}))
    keys = [(m["repeat"], m["fold"], m.get(FITTED, {})) for m in content["models"]]
    refit = (None, None, content.get(REFIT_FITTED, {}))
    keys += [refit] if content["refit"] else []
    models = []
    for repeat, fold, state in keys:
        model = build_model(config, HeadSignature(dims, classes, kind)).eval()
        tensors = load_file(path / _file_name(repeat, fold))
        first, *finer = [
            _loaded(tensors, i, dim, config, len(classes)) for i, dim in enumerate(dims)
        ]
        whole = replace(first, finer=tuple(finer))
        model.load_state_dict(tensors)
        fitted_target = kind.restore(state, classes)
        models.append(HeadModel(repeat, fold, model, whole, fitted_target))
    return Head(
        classes,
        dims,
        content["scale"],
        tuple(content["scales"]) if content["scales"] else None,
        content["encoder"],
        config.vote,
        content["folds"],
        tuple(models),
        content,
        kind,
        read_decision(path),
    )


def _file_name(repeat: int | None, fold: int | None) -> str:
    return f"{_REFIT if fold is None else f'repeat{repeat}-fold{fold}'}.safetensors"


def _save(path: Path, model: nn.Module, standardisation: Standardisation) -> None:
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    for i, part in enumerate((standardisation, *standardisation.finer)):
        tensors[f"input.mean.{i}"], tensors[f"input.std.{i}"] = part.mean, part.std
        for name, value in (part.reduced.state if part.reduced else {}).items():
            tensors[f"input.reduction.{i}.{name}"] = value.contiguous()
    save_file(tensors, path)


def _loaded(
    tensors: dict[str, torch.Tensor], i: int, dim: int, config: TrainConfig, num: int
) -> Standardisation:
    """Take the preparation of scale i out of a file's tensors."""
    mean, std = tensors.pop(f"input.mean.{i}"), tensors.pop(f"input.std.{i}")
    prefix = f"input.reduction.{i}."
    names = [name for name in tensors if name.startswith(prefix)]
    state = {name.removeprefix(prefix): tensors.pop(name) for name in names}
    if not state:
        return Standardisation(mean, std, clip=config.clip)
    reduction = reduction_of(config.reduction, dim, num)
    reduced = Reduced(reduction, state)
    return Standardisation(mean, std, reduced=reduced, clip=config.clip)
