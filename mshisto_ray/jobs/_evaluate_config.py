"""Config of the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import field_validator, model_validator

from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputPath, OutputPath, option
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.evaluation.labelled_tiles import LabelConfig
from mshisto_ray.evaluation.plan import QuestionConfig
from mshisto_ray.runtime import WorkersRuntime
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.file_names import check_distinct

# The baselines' names among the encoders.
BASELINES = ("colour_stats", "random")


class BaselinesConfig(Config):
    """The two baselines that every encoder has to beat."""

    colour_stats: InputPath | None = option(
        None, "embeddings by colour statistics; null: made here"
    )
    random: InputPath | None = option(
        None, "embeddings of a network with random weights; null: made here"
    )
    random_encoder: Annotated[Part, Family(ENCODERS)] = option(
        Part.model_validate({"name": "timm", "model": "resnet18", "weights": "random"}),
        "network of the random baseline: choose the backbone of your encoders",
    )


class CoarseConfig(Config):
    """Where the next coarser scale is, if not in the same directories."""

    tiles: InputPath | None = option(None, "its tiles directory; null: the same")
    encoders: dict[str, InputPath] = option(
        {}, "{name: embeddings directory} of encoders and baselines at that scale"
    )

    @property
    def is_given(self) -> bool:
        """Whether anything is."""
        return bool(self.tiles or self.encoders)


class EvaluateConfig(QuestionConfig):
    """Compare encoders by retrieval, descriptor distances and effective rank."""

    encoders: dict[str, InputPath] = option(
        text="{name: embeddings directory}, all of the same tiles", min_length=1
    )
    colours: dict[str, str] = option(
        {}, "{name: colour mode} of encoders; without one: the first of the embeddings"
    )
    tiles: InputPath = option(text="tiles directory of the embeddings")
    cohort: InputPath | None = option(
        None, "labels, patients or sites in place of those of the tiles directory"
    )
    columns: ColumnsConfig = ColumnsConfig()
    out: OutputPath = option(text="output directory")
    label: LabelConfig = LabelConfig()
    scale: float | None = option(
        None, "scale of the tiles; null: the finest", unit="um/px", gt=0
    )
    baselines: BaselinesConfig = BaselinesConfig()
    coarse: CoarseConfig = CoarseConfig()
    embedding_map: bool = option(
        False, "draw each encoder's tiles on a plane by UMAP (needs the extra `plots`)"
    )
    runtime: WorkersRuntime = WorkersRuntime()

    @field_validator("encoders")
    @classmethod
    def _are_no_baselines(cls, encoders: dict[str, Path]) -> dict[str, Path]:
        check_distinct("encoders", encoders)
        for name in ("chance", *BASELINES):
            if name in encoders:
                raise ValueError(
                    f"{name!r} is reserved: give embeddings of the baselines as "
                    "baselines.colour_stats and baselines.random"
                )
        return encoders

    @model_validator(mode="after")
    def _names_are_of_encoders(self) -> EvaluateConfig:
        for key, given, known in (
            ("colours", self.colours, (*self.encoders,)),
            ("coarse.encoders", self.coarse.encoders, (*self.encoders, *BASELINES)),
        ):
            unknown = sorted(given.keys() - {*known})
            if unknown:
                have = ", ".join(known)
                raise ValueError(f"{key}: {unknown[0]!r} is no encoder; have {have}")
        return self
