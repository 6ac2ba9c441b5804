"""Several experiments of one shape at once: their cross-validation and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.experiment_result import Stopwatch, measure_and_write
from mshisto_ray.mil.fit.pack import cross_validate_pack
from mshisto_ray.mil.input.bags import Bags


def run_pack(
    configs: Sequence[tuple[ExperimentConfig, Path]],
    bags: Bags,
    splits: Sequence[Split],
    on_model: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, InputError | None]]:
    """Cross-validate configs of one ``pack_key`` and write their folders.

    Args:
        configs: each with its folder; see ``experiment.run``.
        bags: of ``load``.
        splits: of ``load``.
        on_model: called with the number of models done.

    Yields:
        The place of each config when its folder is written, with the error that kept
        it from being.
    """
    given = [config for config, _ in configs]
    refits = [config.refit for config in given]
    clock, cpu, left = Stopwatch(), 0.0, len(configs)
    for place, result in cross_validate_pack(bags, splits, given, refits, on_model):
        # What those still in training have had of it, each.
        cpu += clock.share(left)
        left -= 1
        if isinstance(result, InputError):
            yield place, result
            continue
        config, folder = configs[place]
        measure_and_write(folder, result, bags, config, clock.seconds, cpu)
        yield place, None
