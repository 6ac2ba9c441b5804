"""A saved tile head: the fold models of one config, in one directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split
from mshisto_ray.representation.normalise import Reduced, Standardisation
from mshisto_ray.representation.preparation import reduction_of
from mshisto_ray.tile_classification.head.config import TileModelConfig
from mshisto_ray.tile_classification.head.fit import TileModel, make_model
from mshisto_ray.tile_classification.head.samples import TileSamples

KIND = "tile_head"
_VERSION = 2
_NEVER_TESTED = -1
_PREPARE, _REDUCE = "input.", "input.reduction."


@dataclass(frozen=True)
class TileHead:
    """Models of one config; ``about``: the content of ``model.json``."""

    classes: tuple[str, ...]
    models: tuple[TileModel, ...]
    about: Mapping[str, Any]


def save_heads(
    path: Path,
    samples: TileSamples,
    splits: Sequence[Split],
    models: Sequence[TileModel],
    config: TileModelConfig,
    column: str | None = None,
) -> None:
    """Write ``model.json`` and a safetensors file per model into a new directory.

    ``column``: of the cohort that gave slides their classes, if one did.
    """
    path.mkdir(parents=True)
    keys = [{"repeat": split.repeat, "fold": split.fold} for split in splits]
    content = {
        "kind": KIND,
        "version": _VERSION,
        "classes": list(samples.classes),
        "dim": samples.features.dim,
        "views": list(samples.views),
        "mpp": samples.mpp,
        "encoder": samples.encoder,
        "embeddings_digest": samples.digest,
        "tile_px": list(samples.tile_px),
        "config": config.model_dump(
            mode="json", include=set(TileModelConfig.model_fields)
        ),
        "column": column,
        "models": keys,
        "folds": _folds(samples, splits),
    }
    for key, model in zip(keys, models, strict=True):
        tensors = {n: v.contiguous() for n, v in model.model.state_dict().items()}
        tensors["input.mean"] = model.prepare.mean
        tensors["input.std"] = model.prepare.std
        reduced = model.prepare.reduced
        for name, value in (reduced.state if reduced else {}).items():
            tensors[_REDUCE + name] = value.contiguous()
        save_file(tensors, path / _file_name(key))
    (path / "model.json").write_text(json.dumps(content, indent=2) + "\n")


def _folds(samples: TileSamples, splits: Sequence[Split]) -> dict[str, list[int]]:
    """Fold that tests each patient in each repeat; -1: every model has seen some of it.

    A patient is tested by a fold only if all of its tiles were held together.
    """
    repeats = 1 + max(split.repeat for split in splits)
    fold = np.full((repeats, len(samples)), _NEVER_TESTED)
    for split in splits:
        fold[split.repeat, split.test] = split.fold
    names = samples.patients_of_tiles()
    found = {}
    for name in np.unique(names).tolist():
        own = fold[:, names == name]
        whole = (own == own[:, :1]).all(1)
        found[name] = np.where(whole, own[:, 0], _NEVER_TESTED).tolist()
    return found


def load_heads(path: Path) -> TileHead:
    """Read a head that ``save_heads`` wrote.

    Raises:
        InputError: not a tile head, or one of another version.
    """
    file = path / "model.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    if content.get("kind") != KIND or content.get("version") != _VERSION:
        raise InputError(
            f"{path}: is no tile head of version {_VERSION}: give a directory `head` "
            "of mshisto tile_head"
        )
    config = configs.validate(TileModelConfig, content["config"])
    dim, num = content["dim"], len(content["classes"])
    models = []
    for key in content["models"]:
        tensors = load_file(path / _file_name(key))
        prepare = _loaded(tensors, config, dim, num)
        with torch.random.fork_rng([]):
            model = make_model(config, dim, num).eval()
        own = {n: v for n, v in tensors.items() if not n.startswith(_PREPARE)}
        model.load_state_dict(own)
        models.append(TileModel(model, prepare, 0, ()))
    return TileHead(tuple(content["classes"]), tuple(models), content)


def _loaded(
    tensors: Mapping[str, torch.Tensor], config: TileModelConfig, dim: int, num: int
) -> Standardisation:
    state = {
        name.removeprefix(_REDUCE): value
        for name, value in tensors.items()
        if name.startswith(_REDUCE)
    }
    reduced = None
    if state:
        reduced = Reduced(reduction_of(config.reduction, dim, num), state)
    mean, std = tensors["input.mean"], tensors["input.std"]
    return Standardisation(mean, std, reduced=reduced, clip=config.clip)


def _file_name(key: Mapping[str, int]) -> str:
    return f"repeat{key['repeat']}-fold{key['fold']}.safetensors"
