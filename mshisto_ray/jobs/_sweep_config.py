"""Config of a sweep."""

from __future__ import annotations

from mshisto_ray.config import OutputPath, option
from mshisto_ray.mil.experiment import ExperimentConfig, ExperimentRuntime
from mshisto_ray.mil.sweep import AxesConfig
from mshisto_ray.runtime import Resources


class SweepRuntime(ExperimentRuntime, Resources):
    """Workers, node cache and MLflow runs of a sweep."""


class SweepConfig(AxesConfig, ExperimentConfig):
    """Train a MIL config at every combination of axes, and compare them."""

    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    runtime: SweepRuntime = SweepRuntime()  # pyright: ignore[reportIncompatibleVariableOverride]
