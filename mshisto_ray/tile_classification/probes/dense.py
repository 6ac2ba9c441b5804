"""The proxy task of Nivaggioli et al. 2023: one dense layer, focal loss and noise."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.components import Family, Part
from mshisto_ray.representation.reductions import FAMILY as REDUCTIONS
from mshisto_ray.tile_classification.head.config import TileModelConfig
from mshisto_ray.tile_classification.head.fit import fit_head, predict_tiles
from mshisto_ray.tile_classification.head.preparation import (
    fit_preparation,
    group_moments,
)
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe

_WINDOW = 65536
_WHOLE = Part(name="none")


def build(
    *,
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (),
    gamma: Annotated[float, Field(ge=0)] = 2.0,
    sigma: Annotated[float, Field(ge=0)] = 0.1,
    lr: Annotated[float, Field(gt=0)] = 1e-2,
    epochs: Annotated[int, Field(ge=1)] = 40,
    reduction: Annotated[Part, Family(REDUCTIONS)] = _WHOLE,
    seed: int = 0,
) -> Probe:
    """A tile head (see ``mshisto tile_head``), its epoch chosen on validation.

    Args:
        hidden: widths of hidden layers; (): the proxy's one dense layer.
        gamma: of the focal loss.
        sigma: of Gaussian noise on embeddings.
        lr: of Adam.
        epochs: at most.
        reduction: of the embeddings, to compare encoders at one width.
        seed: of weights, order and noise.
    """
    raw = {
        "hidden": hidden,
        "gamma": gamma,
        "noise": {"name": "gaussian", "sigma": sigma},
        "reduction": reduction,
        "lr": lr,
        "epochs": epochs,
        "batch_size": 64,
        "patience": 10,
        "seed": seed,
    }
    config = configs.validate(TileModelConfig, raw)

    def probe(samples: TileSamples, fold: Fold) -> np.ndarray:
        moments = group_moments(samples)
        prepare = fit_preparation(samples, moments, fold.train, config)
        cpu = torch.device("cpu")
        model = fit_head(
            samples, prepare, fold.train, fold.validation, config, fold.stream,
            _WINDOW, cpu,
        )  # fmt: skip
        return predict_tiles(samples, model.model, model.prepare, fold.test)

    return probe
