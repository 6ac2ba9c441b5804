"""Config of a study, and the configs of its steps that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mshisto_ray import config as configs
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs.embed import EmbedConfig
from mshisto_ray.jobs.predict import PredictConfig
from mshisto_ray.jobs.tile import TileConfig
from mshisto_ray.learning.sweep.axes import Axes
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.columns import ColumnsConfig

_POOLINGS = ("embedding_mean", "attention", "gated_attention", "clam", "dsmil")

C = TypeVar("C", bound=Config)


class RunConfig(Config):
    """A study from slides to predictions: tile, embed, sweep, predict."""

    cohort: InputPath = option(
        text="CSV or Parquet, one row per slide: `path`, a label, better `patient_id`"
    )
    columns: ColumnsConfig = ColumnsConfig()
    new_cohort: InputPath | None = option(
        None, "table of slides that take no part in training, predicted at the end"
    )
    out: OutputPath = option(
        Path("study"), "folder of all steps; an unfinished one is resumed"
    )
    target: TargetConfig = option(TargetConfig(), "what is predicted")
    encoder: Annotated[Part, Family(ENCODERS)] = option(text="what embeds a tile")
    scales: tuple[float, ...] = option(
        (0.5, 1.0, 2.0),
        "target resolutions, each a whole multiple of the next finer (20x is 0.5)",
        unit="um/px",
    )
    tile_px: int = option(256, "side of a tile at every scale", unit="px", ge=16)
    axes: Axes = option(
        {"pooling": tuple({"name": name} for name in _POOLINGS)},
        "of the sweep: {key: values}; one model per combination of values",
    )
    split: GroupedSplitConfig = GroupedSplitConfig()
    tile: dict[str, Any] = option({}, "other keys of the job tile, as {tissue: stain}")
    embed: dict[str, Any] = option({}, "of the job embed, as {runtime: {gpus: 1}}")
    sweep: dict[str, Any] = option({}, "of the job sweep, as {epochs: 100, scale: 1.0}")
    predict: dict[str, Any] = option({}, "of the job predict, as {annotation: tumour}")
    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class StudySteps:
    """The configs of a study's steps; the first three run in this order."""

    tile: TileConfig
    embed: EmbedConfig
    sweep: SweepConfig
    predict: PredictConfig

    def prediction(self, cohort: Path, out: Path, head: Path) -> PredictConfig:
        """The prediction of a cohort with a head of the sweep."""
        changed = {"cohort": cohort, "out": out, "head": head}
        return self.predict.model_copy(update=changed)


def all_slides(config: RunConfig) -> Path:
    """The table of the slides to tile: the cohort, or ``run``'s table of both."""
    return config.out / "slides.csv" if config.new_cohort else config.cohort


def plan_steps(config: RunConfig) -> StudySteps:
    """Make the config of every step.

    Raises:
        InputError: one line per problem of any step; a key of a step's block that
            ``run`` sets itself.
    """
    own = _own_keys(config)
    problems: list[str] = []

    def step(name: str, kind: type[C]) -> C | None:
        try:
            block = getattr(config, name)
            return configs.validate(kind, _merge(own[name], block, f"{name}."))
        except InputError as error:
            problems.extend(_named(name, line) for line in str(error).splitlines())
            return None

    tile, embed = step("tile", TileConfig), step("embed", EmbedConfig)
    sweep, predict = step("sweep", SweepConfig), step("predict", PredictConfig)
    if sweep and sweep.select is None:
        problems.append(
            "sweep.select: null chooses no model, and run predicts with the chosen "
            "one: give auto, or a metric of the target, as auroc"
        )
    if problems or not (tile and embed and sweep and predict):
        raise InputError("\n".join(problems))
    return StudySteps(tile, embed, sweep, predict)


def _own_keys(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The keys of each step that follow from the study."""
    given = config.model_dump(mode="json")
    out = config.out
    tiles, embeddings = str(out / "tiles"), str(out / "embeddings")
    # The table of both cohorts, which ``run`` writes, has the reserved columns.
    columns = {} if config.new_cohort else {"columns": given["columns"]}
    cohort = {"cohort": given["cohort"], "columns": given["columns"]}
    own: dict[str, dict[str, Any]] = {
        "tile": {"cohort": str(all_slides(config)), **columns, "out": tiles}
        | {key: given[key] for key in ("scales", "tile_px")},
        "embed": {"tiles": tiles, "out": embeddings, "encoder": given["encoder"]},
        "sweep": {"embeddings": embeddings, **cohort, "out": str(out / "sweep")}
        | {key: given[key] for key in ("target", "axes", "split")},
        "predict": {"embeddings": embeddings, **cohort, "tiles": tiles}
        | {"head": str(out / "sweep" / "best"), "out": str(out / "predictions")},
    }
    mlflow = config.runtime.mlflow.model_dump()
    return {name: keys | {"runtime": {"mlflow": mlflow}} for name, keys in own.items()}


def _merge(
    own: Mapping[str, Any], block: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """The keys of a step that follow from the study, and those of its block."""
    merged = dict(own)
    for key, value in block.items():
        inner = own.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(inner, value, f"{prefix}{key}.")
        elif key in own:
            where = prefix.partition(".")[2] + key
            known = where.split(".")[0] in RunConfig.model_fields
            rest = f"give {where} outside of the block" if known else "leave it out"
            raise InputError(f"{prefix}{key}: run sets it from its own keys; {rest}")
        else:
            merged[key] = value
    return merged


def _named(step: str, line: str) -> str:
    """A problem under the name by which the study has the key."""
    if line.startswith(f"{step}."):
        return line
    key = line.split(":")[0].split(".")[0]
    is_own = key in RunConfig.model_fields or line.startswith("axes, ")
    return line if is_own else f"{step}.{line}"
