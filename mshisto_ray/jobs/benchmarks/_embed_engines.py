"""Engines and precisions of encoders side by side, and what float16 storage changes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray.backbone.engine import OWN
from mshisto_ray.components import Part
from mshisto_ray.embedding.engine_check import Trial, Trials, choose, compare
from mshisto_ray.jobs.benchmarks._benchmark import Measure
from mshisto_ray.jobs.benchmarks._slides import make_repeated
from mshisto_ray.jobs.benchmarks.read import read_pixels

ENGINES: dict[str, dict[str, Any]] = {
    name: {"name": "timm", "model": name, "weights": "random", "fit": fit}
    for name, fit in {
        "mobilenetv2_100": "as_is",
        "resnet50": "as_is",
        "vit_small_patch16_224": "resize",  # it takes its own size alone
    }.items()
}
_MOST_OF_BY_HAND = 1.3
_REPEATS, _TILES, _SIDE = 3, 128, 3_072


def engines(
    folder: Path,
    actors: int,
    encoders: Mapping[str, dict[str, Any]] | None,
    given: Path | None,
    mpp: float | None,
) -> dict[str, Measure]:
    """Engines of some encoders on tiles of a slide, given or made."""
    del actors  # in this process, one thread
    path = given or make_repeated(folder, _SIDE)
    out = folder / "engines"
    shutil.rmtree(out, ignore_errors=True)
    return measure_engines(encoders or ENGINES, read_pixels(path, mpp, _TILES), out)


def measure_engines(
    encoders: Mapping[str, dict[str, Any]], tiles: np.ndarray, folder: Path
) -> dict[str, Measure]:
    """Every engine and precision of this machine, one thread, in CPU time.

    Args:
        encoders: configs by name.
        tiles: uint8 [N, H, W, 3].
        folder: for graphs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found: dict[str, Measure] = {}
        for name, raw in encoders.items():
            found |= _measure(f"embed.engines.{name}", raw, tiles, folder / name)
        return found
    finally:
        torch.set_num_threads(threads)


def _measure(
    key: str, raw: dict[str, Any], tiles: np.ndarray, folder: Path
) -> dict[str, Measure]:
    trials = Trials(Part.model_validate(raw), tiles, "cpu")
    tried = trials.run(
        folder / "network",
        {"engine": "auto", "precision": "auto", "configured": asdict(OWN)},
    )
    first = tried[0].ms
    found = {}
    for trial in tried:
        if trial.error:
            continue
        one = f"{key}.{trial.engine}.{trial.precision}"
        found[one] = Measure(trial.ms, "CPU ms/tile", first)
        gap = 1e6 * max(0.0, 1 - trial.cosine)
        found[f"{one}.cosine_gap"] = Measure(gap, "millionths, worst")
        found[f"{one}.neighbours"] = Measure(trial.neighbours, "share kept")
    auto = choose(tried, "auto", "auto")
    if auto:
        found[f"{key}.auto"] = Measure(auto.ms, "CPU ms/tile", first)
        found |= _by_hand(key, raw, auto, folder)
    stored = trials.wanted.astype(np.float16).astype(np.float32)
    _, apart, kept = compare(trials.wanted, stored)
    largest = float(np.abs(trials.wanted).max())
    found[f"{key}.stored_float16"] = Measure(
        1e3 * apart / largest, "thousandths of the largest value"
    )
    found[f"{key}.stored_float16.neighbours"] = Measure(kept, "share kept")
    return found


def _by_hand(
    key: str, raw: Mapping[str, Any], auto: Trial, folder: Path
) -> dict[str, Measure]:
    """The same graph in OpenVINO alone, a tile a call: no input transform."""
    exported = sorted((folder / "network").glob("*.onnx"))
    given = raw.get("path") or raw.get("weights", "")  # of a recipe: its weights
    path = exported[0] if exported else Path(given)
    if auto.engine != "openvino" or not path.is_file():
        return {}
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if auto.precision == "float32" else "bf16",
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    batch = np.zeros(list(model.input(0).shape), np.float32)
    request.infer([batch])
    costs = []
    for _ in range(_REPEATS):
        started = time.process_time()
        for _ in range(_TILES):
            request.infer([batch])
        costs.append(1e3 * (time.process_time() - started) / _TILES)
    alone = float(np.median(costs))
    ratio = Measure(auto.ms / alone, "x", None, _MOST_OF_BY_HAND, "at most")
    return {
        f"{key}.by_hand": Measure(alone, "CPU ms/tile"),
        f"{key}.auto.of_by_hand": ratio,
    }
