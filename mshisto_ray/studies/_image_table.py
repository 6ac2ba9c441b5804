"""The table of a study of small images in bags, beside the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mshisto_ray.learning.split import Split
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.studies import _study
from mshisto_ray.studies._image_bags import ImageTraining
from mshisto_ray.studies._study import UnitResult

_METRICS = ("accuracy", "precision", "recall", "f1", "auroc")


@dataclass(frozen=True)
class Protocol:
    """How models are trained and tested.

    Attributes:
        folds: of the cross-validation.
        repeats: of drawing the folds.
        validation: share of the training bags by whose loss the network's epoch is
            chosen; 0: the last epoch.
        training: of the network.
    """

    folds: int
    repeats: int
    validation: float
    training: ImageTraining


@dataclass(frozen=True)
class TableNotes:
    """What a table says beside its numbers.

    Attributes:
        published: the paper's cells of each pooling: accuracy, precision, recall, F1,
            AUROC.
        data: a phrase on the images and the folds.
        truth: what attention is compared with, if instances have labels.
    """

    published: Mapping[str, Sequence[str]]
    data: str
    truth: str = ""


@dataclass(frozen=True)
class ImageTable:
    """The rows of a table, by the units that they are made of.

    Attributes:
        page: published values, and what the caption says.
        protocol: how models were trained.
        num_images: of the study.
        trained: units of each pooling with the network.
        frozen: the unit of each row of features that were not trained.
    """

    page: TableNotes
    protocol: Protocol
    num_images: int
    trained: Mapping[str, Sequence[str]]
    frozen: Mapping[str, str]

    def text(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's columns; rows: network, its published values, frozen features."""
        rows = []
        for name, keys in self.trained.items():
            found = [done[key] for key in keys if key in done]
            note = "" if len(found) == len(keys) else f" [{len(found)} folds]"
            areas = [unit.extras["attention_auroc"] for unit in found]
            known = [area for area in areas if area == area]
            rows.append([f"{name}{note}", *self._cells(found), _study.mean(known)])
        for name, values in self.page.published.items():
            rows.append([f"{name}, published", *values, "", ""])
        for label, key in self.frozen.items():
            found = [done[key]] if key in done else []
            rows.append([label, *self._cells(found), ""])
        header = ["", *_METRICS, f"auroc by {self._spread}"]
        if self.page.truth:
            header.append(f"attention against {self.page.truth}")
        rows = [row[: len(header)] for row in rows]
        return "\n".join([_study.markdown(header, rows), self._caption()])

    @property
    def _spread(self) -> str:
        """What standard errors are taken over: the paper's are over repeats."""
        return "repeat" if self.protocol.repeats > 1 else "fold"

    def _cells(self, found: Sequence[UnitResult]) -> list[str]:
        """Pooled out-of-fold predictions with intervals; AUROC by fold or repeat."""
        if not found:
            return [""] * (len(_METRICS) + 1)
        metrics: Mapping[str, Interval] = _study.measure(found)
        cells = [_study.cell(metrics[name]) for name in _METRICS]
        return [*cells, _study.mean(_study.aurocs_by(self._spread, found))]

    def _caption(self) -> str:
        protocol, training = self.protocol, self.protocol.training
        repeats = "one" if protocol.repeats == 1 else str(protocol.repeats)
        folds = {10: "ten"}.get(protocol.folds, str(protocol.folds))
        chosen = "the last epoch scored"
        if protocol.validation:
            chosen = (
                f"the epoch of the lowest loss on {protocol.validation:.0%} of the "
                "training bags, set aside"
            )
        colour = f", stain jitter of {training.colour:g}" if training.colour else ""
        plural = "" if protocol.repeats == 1 else "s"
        text = (
            f"{self.num_images} images, {repeats} {folds}-fold repeat{plural}, "
            f"95 % score intervals over {self.page.data}. Network: "
            f"Adam, lr {training.lr:.0e}".replace("e-0", "e-")
            + f", weight decay {training.weight_decay:.0e}".replace("e-0", "e-")
            + f", {training.epochs} epochs, flips "
            f"and quarter turns{colour}, one bag a step, {chosen}. Colour "
            "statistics (mean, deviation and quantiles per channel) and other frozen "
            "features: a ReLU layer of 64, Adam, lr 1e-3, weight decay 1e-4, 30 "
            "epochs. Nothing was selected. Metrics: all folds' predictions pooled; by "
            f"{self._spread}: mean over {self._spread}s +- its standard error"
        )
        if self.page.truth:
            text += (
                f", as is attention against {self.page.truth}, a fold's mean AUROC "
                "within images that hold both kinds of nuclei"
            )
        return f"{text}. Published: mean +- standard error over five repeats.\n"


def unit_name(pooling: str, split: Split) -> str:
    """The unit of a pooling with the network on one fold."""
    repeat = f"{split.repeat}-" if split.repeat else ""
    return f"network-{pooling}-{repeat}{split.fold}"


def frozen_name(kind: str, pooling: str) -> str:
    """The unit of a pooling on features that are not trained."""
    return f"{kind}-{pooling}"
