"""A head on tiles, as a head of slides: what a slide's tiles say on average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from mshisto_ray.decision.files import read_decision
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.combinations import Finer
from mshisto_ray.mil.head import Head, HeadModel
from mshisto_ray.mil.poolings import Pooled, mean_of_instances
from mshisto_ray.mil.ragged import segments
from mshisto_ray.tile_classification.head.files import load_heads

POOLING = "mean_of_tiles"


class MeanOfTiles(nn.Module):
    """P = (1 / K) sum_k p_k of the probabilities of K tiles."""

    def __init__(self, tiles: nn.Module):
        super().__init__()
        self.tiles = tiles

    def forward(
        self,
        h: torch.Tensor,
        offsets: torch.Tensor,
        finer: Sequence[Finer] = (),
        places: Callable[[], torch.Tensor] | None = None,
        rows: torch.Tensor | None = None,
    ) -> Pooled:
        """Tiles [N, D] and offsets [B + 1] of B bags to ``Pooled``.

        Arguments as of ``MILModel``.
        """
        found = self.tiles(h).log_softmax(1)
        if rows is not None:
            found = found[rows.to(h.device)]
        segments.check_bags(found, offsets)
        return mean_of_instances(found, offsets)


def load_tile_head(path: Path) -> Head:
    """A head that ``tile_head`` wrote, for slides.

    A tile's probabilities are those of the models that did not see its patient; a
    slide's are the mean of its tiles'. Where what was held together in folds was not
    the patient, patients of the training are not predicted: every model has seen them.

    Raises:
        InputError: see ``load_heads``.
    """
    found = load_heads(path)
    content = dict(found.about)
    kind = TargetConfig(column=content.get("column") or "label").build()
    classes = found.classes
    models = tuple(
        HeadModel(
            key["repeat"],
            key["fold"],
            MeanOfTiles(one.model),
            one.prepare,
            kind.restore({}, classes),
        )
        for key, one in zip(content["models"], found.models, strict=True)
    )
    content |= {
        "unit": "slide",
        "target": dict(kind.settings),
        "config": {**content["config"], "pooling": {"name": POOLING}},
    }
    return Head(
        classes,
        (content["dim"],),
        content["mpp"],
        None,
        content["encoder"],
        None,
        content["folds"],
        models,
        content,
        kind,
        of_tiles=read_decision(path),
    )
