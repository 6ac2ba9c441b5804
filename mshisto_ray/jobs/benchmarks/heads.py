"""Several heads over one embeddings directory in one pass, against one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from mshisto_ray.config import validate
from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    forget_peak_memory,
    interleaved,
    peak_memory_mib,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.prediction.several import make_predictors, unit_name
from mshisto_ray.prediction.unit import Bag, PredictWork
from mshisto_ray.representation.normalise import Standardisation
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import STAGE, shard_path
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.shards import tensor_column, write_shard
from mshisto_ray.tile_classification.head.config import TileModelConfig
from mshisto_ray.tile_classification.head.files import save_heads
from mshisto_ray.tile_classification.head.fit import TileModel, make_model
from mshisto_ray.tile_classification.head.samples import TileSamples

_CLASSES, _MPP, _ENCODER = ("a", "b"), 0.5, {"name": "drawn", "digest": ""}


def build(
    *,
    heads: Annotated[int, Field(ge=2)] = 5,
    slides: Annotated[int, Field(ge=1)] = 8,
    tiles: Annotated[int, Field(ge=4)] = 10_000,
    width: Annotated[int, Field(ge=2)] = 1024,
    repeats: Annotated[int, Field(ge=1)] = 3,
) -> Benchmark:
    """CPU time and peak memory of prediction, pictures apart, in this process.

    Args:
        heads: of one dense layer, as ``tile_head`` makes them, with one model.
        slides: to predict.
        tiles: of a slide.
        width: of an embedding, float16.
        repeats: of each way, in turns; the median ratio counts.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        embeddings = _write_embeddings(folder / "embeddings", slides, tiles, width)
        works: dict[str, PredictWork] = {}
        for i in range(heads):
            path = folder / "heads" / str(i)
            _write_head(path, width, i)
            works[str(i)] = PredictWork(path, (embeddings,), None, folder / f"out{i}")
        one_by_one = [{name: work} for name, work in works.items()]
        ways = {
            "together": lambda: _predict([works], slides),
            "apart": lambda: _predict(one_by_one, slides),
        }
        memory = {}
        for name, way in ways.items():
            forget_peak_memory()
            way()
            memory[name] = peak_memory_mib()
        seconds = interleaved(ways, repeats)
        ratio = float(np.median(seconds["apart"] / seconds["together"]))
        together, apart = (float(np.median(seconds[n])) for n in ways)
        return {
            "heads.time": Measure(together, "CPU s", apart),
            "heads.ratio": Measure(ratio, "x"),
            "heads.memory": Measure(memory["together"], "MiB", memory["apart"]),
        }

    return measure


def _predict(runs: list[dict[str, PredictWork]], slides: int) -> None:
    """Each run reads every slide once."""
    units = [Bag(f"s{i}", f"s{i}", [f"s{i}"]).as_unit() for i in range(slides)]
    names = {unit_name(unit) for unit in units}
    for works in runs:
        given = {name: (work, names) for name, work in works.items()}
        predict = make_predictors(given, torch.get_num_threads())
        for unit in units:
            predict(unit)


def _write_embeddings(out: Path, slides: int, tiles: int, width: int) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe = {"encoder": _ENCODER, "dim": width, "tiles": {"scales": [_MPP]}}
    with open_stage(out, STAGE, recipe, {}):
        pass
    rng, rows = np.random.default_rng(0), []
    place = np.arange(tiles)
    for i in range(slides):
        values = rng.normal(size=(tiles, width)).astype(np.float16)
        kind = schema.embeddings(width, pa.float16())
        columns = {
            "slide_id": pa.array([f"s{i}"] * tiles),
            "mpp": np.full(tiles, _MPP),
            "row": (place // 100).astype(np.int32),
            "col": (place % 100).astype(np.int32),
            "x": place % 100 * 256,
            "y": place // 100 * 256,
            "extent": np.full(tiles, 256.0),
            "tissue": np.ones(tiles, np.float32),
            "own": np.ones(tiles, bool),
            "rgb": tensor_column(values),
        }
        table = pa.table(list(columns.values()), schema=kind)
        write_shard(shard_path(out, f"s{i}", 0), [table])
        rows.append(
            {
                "slide_id": f"s{i}", "patient_id": f"s{i}", "fingerprint": f"s{i}",
                "made_from": f"s{i}", "num_chunks": 1, "complete": True,
                "rows_per_scale": [(_MPP, tiles)],
            }
        )  # fmt: skip
    found = pa.Table.from_pylist(rows, schema=schema.EMBEDDED_SLIDES)
    write_shard(out / "slides.parquet", [found])
    return out


def _write_head(path: Path, width: int, seed: int) -> None:
    """A head with random weights that has seen one other patient."""
    config = validate(TileModelConfig, {"patience": None})
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = make_model(config, width, len(_CLASSES))
    plain = Standardisation(torch.zeros(width), torch.ones(width))
    one = np.zeros(1, np.int64)
    samples = TileSamples(
        ArrayFeatures(["known"], np.zeros((1, width), np.float32), np.array([0, 1])),
        one, one, np.zeros((1, 2), np.int64), one, one, ("known",), _CLASSES, None,
        (width,), _MPP, "", _ENCODER, (),
    )  # fmt: skip
    split = Split(0, 0, one[:0], one[:0], one)
    save_heads(path, samples, [split], [TileModel(model, plain, 1, ())], config)
