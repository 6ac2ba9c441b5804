"""Engines and precisions of encoders side by side, and what float16 storage changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray.backbone.engine import OWN, Pair
from mshisto_ray.components import Part
from mshisto_ray.embedding.engine_check import Trials, choose, compare
from mshisto_ray.jobs.benchmarks._benchmark import Measure, interleaved
from mshisto_ray.jobs.benchmarks._slides import make_repeated
from mshisto_ray.jobs.benchmarks._tissue_tiles import read_pixels

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
        pair = Pair(auto.engine, auto.precision)  # pyright: ignore[reportArgumentType]
        request = _openvino_alone(raw, pair, folder / "network")
        if request:
            ours = partial(trials.moved(pair, folder / "network"), tiles)
            found |= _by_hand(key, ours, request, len(tiles))
    stored = trials.wanted.astype(np.float16).astype(np.float32)
    _, apart, kept = compare(trials.wanted, stored)
    largest = float(np.abs(trials.wanted).max())
    found[f"{key}.stored_float16"] = Measure(
        1e3 * apart / largest, "thousandths of the largest value"
    )
    found[f"{key}.stored_float16.neighbours"] = Measure(kept, "share kept")
    return found


def _openvino_alone(
    raw: Mapping[str, Any], pair: Pair, folder: Path
) -> Callable[[], object] | None:
    """A tile through the same graph in OpenVINO and nothing else, one thread.

    None: there is no graph, or no OpenVINO.
    """
    exported = sorted(folder.glob("*.onnx"))
    given = raw.get("path") or raw.get("weights", "")  # of a recipe: its weights
    path = exported[0] if exported else Path(given)
    if pair.engine == "torch" or not path.is_file() or not find_spec("openvino"):
        return None
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if pair.precision == "float32" else "bf16",
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return partial(request.infer, [np.zeros(list(model.input(0).shape), np.float32)])


def _by_hand(
    key: str, ours: Callable[[], object], one: Callable[[], object], num: int
) -> dict[str, Measure]:
    """What ``auto`` took for ``num`` tiles, in turns with as many in OpenVINO alone."""

    def alone() -> None:
        for _ in range(num):
            one()

    one()  # the first calls allocate
    ours()
    seconds = interleaved({"ours": ours, "alone": alone}, _REPEATS)
    each = 1e3 * float(np.median(seconds["alone"])) / num
    ratio = float(np.median(seconds["ours"] / seconds["alone"]))
    return {
        f"{key}.by_hand": Measure(each, "CPU ms/tile"),
        f"{key}.auto.of_by_hand": Measure(
            ratio, "x", None, _MOST_OF_BY_HAND, "at most"
        ),
    }
