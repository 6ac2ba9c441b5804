"""Family of benchmarks: ``build(*, ...)`` -> Benchmark."""

from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    interleaved,
)

__all__ = [
    "Benchmark",
    "Measure",
    "interleaved",
]
