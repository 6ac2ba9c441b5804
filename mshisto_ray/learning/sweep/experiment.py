"""What a sweep needs to know of an experiment, whatever it trains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray.config import Config
from mshisto_ray.learning import result_files
from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.targets import Target
from mshisto_ray.tracking import Input

OnFold = Callable[[int, int], None]
OnValidated = Callable[[Predictions], None]


@dataclass(frozen=True)
class HeadFacts:
    """A saved head: its digest, the width that it takes, and its classes."""

    digest: str
    dim: int
    classes: tuple[str, ...]


class Experiment(Config):
    """A config that decides one result, and how that is made and read.

    MIL models and tile heads are experiments. ``data`` is what ``load`` returns: of all
    points of a sweep the same rows, of which every point may have other features. It
    has a ``digest`` (of its embeddings), an ``identity`` (of all that a result depends
    on) and ``failures`` (what was left out for a view that lacks it).
    """

    @classmethod
    @abstractmethod
    def point_class(cls) -> type[Experiment]:
        """The config of a point: these keys without those of a job."""

    @property
    @abstractmethod
    def plain_name(self) -> str:
        """Name of the one config of a sweep without axes."""

    @property
    @abstractmethod
    def kind(self) -> Target:
        """What is predicted, with its metrics."""

    @abstractmethod
    def source(self) -> str:
        """Two configs with the same one load the same data and splits."""

    @abstractmethod
    def load(self) -> Any:
        """Read the data, through the node cache."""

    @abstractmethod
    def check(self) -> tuple[Any, list[Split]]:
        """Data and splits, for a check before work: the node cache is not filled.

        Raises:
            InputError: data, target or split that cannot be used.
        """

    @abstractmethod
    def check_model(self, data: Any, splits: Sequence[Split]) -> None:
        """Refuse what cannot be trained on this data.

        Raises:
            InputError: a part that does not suit the width, views or folds.
        """

    @abstractmethod
    def check_same(self, data: Any, first: Any) -> str | None:
        """Why results on this data cannot be compared with those on the first's."""

    @abstractmethod
    def digest_of(self, data: Any) -> str:
        """Digest of everything that decides the result."""

    @abstractmethod
    def notes(self, data: Any) -> list[str]:
        """Lines for the user: what is trained on, what is left out."""

    def pack_key(self, data: Any, splits: Sequence[Split]) -> str | None:
        """Equal for configs that can be trained at once; None: only by itself."""
        return None

    @abstractmethod
    def train(
        self,
        data: Any,
        folder: Path,
        on_fold: OnFold,
        on_validated: OnValidated = lambda validation: None,
        stages: Sequence[int] = (),
    ) -> None:
        """Cross-validate, and write ``folder`` whole or not at all.

        ``config.yaml``, ``metrics.json``, ``predictions.parquet`` (out of fold),
        ``validation.parquet``, ``history.json``, ``head/``.

        Args:
            data: of ``load``.
            folder: of the result.
            on_fold: called with the number of models done and the number of all.
            on_validated: called with each model's predictions of what was set aside.
            stages: after so many models the callbacks are called before others begin,
                also where models are trained at once.
        """

    @property
    @abstractmethod
    def split_config(self) -> SplitConfig:
        """How folds are drawn."""

    @abstractmethod
    def plan(self, data: Any) -> list[Split]:
        """The splits of ``data``.

        Raises:
            InputError: folds that cannot be drawn, or cannot be trained on.
        """

    @abstractmethod
    def rows(self, data: Any) -> LabelledRows:
        """The rows of ``data`` with their truth, and whose they are."""

    @property
    @abstractmethod
    def null(self) -> str:
        """What holds if the labels of ``exchanged`` do as well as the true ones."""

    @abstractmethod
    def exchanged(self, data: Any, generator: np.random.Generator) -> Any:
        """``data`` after patients have exchanged their labels."""

    @abstractmethod
    def held_out(
        self,
        data: Any,
        splits: Sequence[Split],
        on_fold: OnFold = lambda done, total: None,
    ) -> Iterator[tuple[Predictions, Predictions | None]]:
        """Train on each split; predict its test rows, and those that it set aside.

        The models come in parts, each with all rows of its models: a part of many rows
        need not be held longer than it is looked at. A row may be in training several
        times; None: nothing was set aside.
        """

    @abstractmethod
    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """Lines for the user on a result that says little."""

    def read_test(self, folder: Path) -> Predictions:
        """The out-of-fold predictions of a result."""
        return result_files.read_test(folder)

    def read_validation(self, folder: Path) -> Predictions | None:
        """The predictions of what was set aside in training; None: nothing was."""
        return result_files.read_validation(folder)

    @abstractmethod
    def write_folds(self, path: Path, data: Any, splits: Sequence[Split]) -> None:
        """Write who is trained on, validated and tested in every split (Parquet)."""

    @abstractmethod
    def inputs(self, data: Any) -> list[Input]:
        """What is read, for MLflow."""

    @abstractmethod
    def head_facts(self, path: Path) -> HeadFacts:
        """Of the head in a folder."""
