"""One MIL experiment: a config, its cross-validation, and the files it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.sweep.experiment import (
    Experiment,
    HeadFacts,
    OnFold,
    OnValidated,
)
from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.experiment_data import bag_inputs, difference
from mshisto_ray.mil.experiment_keys import ExperimentKeys
from mshisto_ray.mil.experiment_recipe import digest
from mshisto_ray.mil.experiment_result import Stopwatch, measure_and_write, write_folds
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.far import far_notes
from mshisto_ray.mil.fit.pack import can_pack, shape_of
from mshisto_ray.mil.fit.preparation import check_folds, check_representation
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.trained import hardly_trained
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.input.bags import Bags, read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.summary import summarise
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.statistics.permutation import permute_by_patient
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.head_files import head_digest
from mshisto_ray.tracking import Input


class ExperimentConfig(ExperimentKeys, Experiment):
    """Bags, target, split, model and training: everything that decides a result."""

    @classmethod
    def point_class(cls) -> type[ExperimentConfig]:
        """Without the keys of a job."""
        return ExperimentConfig

    @property
    def plain_name(self) -> str:
        """The pooling."""
        return self.pooling.name

    @property
    def kind(self) -> Target:
        """The target."""
        return self.target.build()

    def source(self) -> str:
        """Everything that bags and splits depend on."""
        names = {*InputConfig.model_fields, "target", "split", "early_stopping"}
        return self.model_dump_json(include={*names, "runtime"})

    def load(self) -> Bags:
        """The bags."""
        return _read(self)

    def check(self) -> tuple[Bags, list[Split]]:
        """Bags and splits."""
        return check(self)

    def check_model(self, data: Bags, splits: Sequence[Split]) -> None:
        """Reduction and noise."""
        check_representation(data, self)
        check_folds(data, [split.train for split in splits], self)

    def check_same(self, data: Bags, first: Bags) -> str | None:
        """Other bags, patients or labels; bags without instances in one of both."""
        return difference(data, first)

    def digest_of(self, data: Bags) -> str:
        """See ``digest``."""
        return digest(self, data)

    def notes(self, data: Bags) -> list[str]:
        """See ``notes``."""
        return notes(self, data)

    def train(
        self,
        data: Bags,
        folder: Path,
        on_fold: OnFold,
        on_validated: OnValidated = lambda validation: None,
        stages: Sequence[int] = (),
    ) -> None:
        """See ``run``."""
        run(self, data, self.plan(data), folder, on_fold, on_validated, stages)

    @property
    def split_config(self) -> SplitConfig:
        """``split``."""
        return self.split

    def plan(self, data: Bags) -> list[Split]:
        """See ``plan_splits``."""
        return plan_splits(data, self.split, self)

    def rows(self, data: Bags) -> LabelledRows:
        """The bags."""
        return data.rows(self.split)

    @property
    def null(self) -> str:
        """Patients have exchanged labels as a whole."""
        return "bags are independent of the labels of their patients"

    def exchanged(self, data: Bags, generator: np.random.Generator) -> Bags:
        """Bags of a patient take the targets of one with as many."""
        assert data.targets is not None
        order = np.argsort(np.array(data.names))
        patients, targets = np.array(data.patient_ids)[order], data.targets.copy()
        targets[order] = permute_by_patient(targets[order], patients, generator)
        return replace(data, targets=targets)

    def held_out(
        self,
        data: Bags,
        splits: Sequence[Split],
        on_fold: OnFold = lambda done, total: None,
    ) -> Iterator[tuple[Predictions, Predictions | None]]:
        """See ``cross_validate``: all models at once."""
        found = cross_validate(data, splits, self, _device(), on_fold=on_fold)
        yield found.test, found.validation

    def pack_key(self, data: Bags, splits: Sequence[Split]) -> str | None:
        """Of configs whose models are of one shape, on the same bags."""
        if not can_pack(data, self, len(splits)):
            return None
        return self.source() + shape_of(self)

    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """See ``warnings``."""
        return warnings(self, metrics)

    def write_folds(self, path: Path, data: Bags, splits: Sequence[Split]) -> None:
        """A row per bag of every split."""
        write_folds(path, data, splits)

    def inputs(self, data: Bags) -> list[Input]:
        """The embeddings and the cohort, or the table of bags."""
        return bag_inputs(self, data)

    def head_facts(self, path: Path) -> HeadFacts:
        """Of the head."""
        head = load_head(path)
        return HeadFacts(head_digest(path), head.dims[0], head.classes)


def load(config: ExperimentConfig) -> tuple[Bags, list[Split]]:
    """Read the bags of a config and plan its splits.

    Raises:
        InputError: input, target or split cannot be used.
    """
    bags = _read(config)
    splits = plan_splits(bags, config.split, config)
    if bags.kind.of_classes:
        config.decision.check_classes(bags.classes)
    given = any(len(split.validation) for split in splits)
    config.decision.check_validation(config.split.validation, given)
    return bags, splits


def _read(config: ExperimentConfig) -> Bags:
    return read_bags(
        config,
        config.target,
        config.split.column,
        config.runtime.cache,
        config.split.group,
    )


def notes(config: ExperimentConfig, bags: Bags) -> list[str]:
    """Lines for the user: what is trained on, what is left out, what does not suit."""
    describe = components.declaration(POOLINGS, config.pooling.name, "notes", None)
    line = summarise(bags, config.split)
    far = far_notes(bags, config.split, config.clip)
    return [line, *bags.notes, *(describe(bags.sizes) if describe else []), *far]


def check(config: ExperimentConfig) -> tuple[Bags, list[Split]]:
    """As ``load``, but without filling the node cache: for a check before work."""
    unfilled = CacheConfig(dir=config.runtime.cache.dir, max_gib=0)
    runtime = config.runtime.model_copy(update={"cache": unfilled})
    return load(config.model_copy(update={"runtime": runtime}))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(
    config: ExperimentConfig,
    bags: Bags,
    splits: Sequence[Split],
    folder: Path,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
    on_validated: Callable[[Predictions], None] = lambda validation: None,
    stages: Sequence[int] = (),
) -> dict[str, float]:
    """Cross-validate a config and write ``folder``, whole or not at all.

    ``config.yaml``, ``metrics.json`` (see ``measure``), ``predictions.parquet`` (out
    of fold), ``validation.parquet``, ``history.json`` (training curves), ``head/``.

    Args:
        config: the experiment.
        bags: of ``load``.
        splits: of ``load``.
        folder: output folder; one that another process wrote meanwhile is kept.
        on_fold: see ``cross_validate``.
        on_validated: likewise.
        stages: likewise.

    Returns:
        The metrics.
    """
    clock = Stopwatch()
    device = _device()
    watched = on_fold, on_validated, stages
    result = cross_validate(bags, splits, config, device, config.refit, *watched)
    took = clock.seconds, clock.share(1)
    return measure_and_write(folder, result, bags, config, *took)


def warnings(config: ExperimentConfig, metrics: Mapping[str, float]) -> list[str]:
    """Lines for the user about fold models that have learned hardly anything.

    Results of versions that did not measure it have none.
    """
    shares = (metrics.get("trained_share", 1), metrics.get("undecided_share", 0))
    return hardly_trained(*shares, config.optimiser, config.target.build())
