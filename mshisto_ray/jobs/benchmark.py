"""Measure a part of the pipeline against a plain way to do it, in the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, OutputPath, option
from mshisto_ray.jobs.benchmarks import (
    Benchmark,
    Measure,
)
from mshisto_ray.store.manifest import write_text

BENCHMARKS = "mshisto_ray.jobs.benchmarks"


class BenchmarkConfig(Config):
    """Measure one part of the pipeline against a plain loop."""

    benchmark: Annotated[Part, Family(BENCHMARKS)] = option(
        Part(name="read"), "the part to measure"
    )
    out: OutputPath = option(Path("benchmark"), "folder of benchmark.json")


def to_words(argv: Sequence[str]) -> list[str]:
    """Rewrite ``PART [CONFIG.yaml] [key=value ...]`` in the grammar of every job.

    Keys of the part itself need no ``benchmark.`` prefix.
    """
    words = list(argv)
    if not words or words[0].startswith("-") or words[0].endswith((".yaml", ".yml")):
        return words
    if "=" in words[0]:
        return words
    part, own = words.pop(0), set()
    if part in components.available(BENCHMARKS):
        own = set(components.schema(BENCHMARKS, part).model_fields)
    path = [words.pop(0)] if words and words[0].endswith((".yaml", ".yml")) else []
    named = (
        f"benchmark.{word}" if word.partition("=")[0] in own else word for word in words
    )
    return [*path, f"benchmark={{name: {part}}}", *named]


def run(config: BenchmarkConfig) -> None:
    """Measure a part of the pipeline against a plain way to do it."""
    benchmark: Benchmark = components.build(BENCHMARKS, config.benchmark)
    found = benchmark(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    values = {name: asdict(measure) for name, measure in found.items()}
    write_text(config.out / "benchmark.json", json.dumps(values, indent=1) + "\n")
    print(table(found))
    print(f"benchmark: {config.out / 'benchmark.json'}")


def table(found: Mapping[str, Measure]) -> str:
    """Measures as a Markdown table."""
    lines = ["|  | value | unit | baseline | target |", "|---|---|---|---|---|"]
    for name, measure in found.items():
        baseline = "" if measure.baseline is None else f"{measure.baseline:.3f}"
        target = ""
        if measure.target is not None:
            verdict = "met" if measure.is_met else "missed"
            target = f"{measure.sense} {measure.target:g}: {verdict}"
        cells = (name, f"{measure.value:.3f}", measure.unit, baseline, target)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
