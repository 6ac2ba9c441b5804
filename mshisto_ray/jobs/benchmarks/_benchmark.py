"""The interface of a benchmark, and measures of CPU time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A number, its baseline measured in the same run, and its target.

    ``target`` is the least ``value`` (``at least``) or the largest (``at most``).
    """

    value: float
    unit: str
    baseline: float | None = None
    target: float | None = None
    sense: Literal["at least", "at most"] = "at least"

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        if self.sense == "at least":
            return self.value >= self.target
        return self.value <= self.target


class Benchmark(Protocol):
    """Returns measures; writes the files that it needs to ``folder``."""

    def __call__(self, folder: Path) -> dict[str, Measure]:
        """Names to measures, in the order to show."""
        ...


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, np.ndarray]:
    """Seconds of each way, [repeats]; CPU time of this process by default.

    Ways take turns, so that both sides of a ratio are measured in the same minute: CPU
    time, too, varies by a third when others use the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = clock()
            way()
            seconds[name].append(clock() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def forget_peak_memory() -> None:
    """Reset the peak that ``peak_memory_mib`` returns (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib() -> float:
    """Peak memory of this process, in MiB; NaN if the kernel does not report it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
