"""Config of the embedding job, and the directories that it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import field_validator, model_validator

from mshisto_ray import components
from mshisto_ray.backbone.engine import OWN, Pair
from mshisto_ray.backbone.network import NetworkEncoder
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.embedding.colour import Colour
from mshisto_ray.embedding.product import SUBSAMPLING
from mshisto_ray.embedding.worker import (
    AS_SCANNED,
    ENCODERS,
    STAINS,
    stain_recipe,
)
from mshisto_ray.encoders import check_takes
from mshisto_ray.jobs._embed_engine import Wanted, decide, recipe_keys
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store import embeddings
from mshisto_ray.store.file_names import check_distinct
from mshisto_ray.store.tiles import TileDirectory

# Stage, and folder of out, of the tiles themselves.
PIXELS = "pixels"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ReadingConfig(Config):
    """The readers of the tiles that a worker embeds; they do not change rows."""

    by: Literal["auto", "worker", "threads", "actors"] = option(
        "auto",
        "worker: reads itself, in turn; threads: of the worker, ahead of it; actors: "
        "processes with a CPU each, also on other nodes, for GPU nodes short of cores; "
        "auto: threads where a worker has a GPU and cores to spare, else worker",
    )
    num: int | None = option(
        None,
        "threads or actors of each worker; null: threads by its cores, 4 actors",
        ge=1,
    )


class EmbedRuntime(UnitsRuntime):
    """Workers and their readers, accepted failures and MLflow run of an embedding."""

    reading: ReadingConfig = ReadingConfig()


class EmbedConfig(Config):
    """Embed every planned tile of a tiles directory."""

    tiles: InputPath = option(text="tiles directory that mshisto tile made")
    out: OutputPath = option(
        text="embeddings directory; an unfinished one is resumed; with encoders, the "
        "folder of their directories"
    )
    encoder: Annotated[Part, Family(ENCODERS)] | None = option(
        None, "what embeds a tile"
    )
    weights: str | None = option(
        None, "of encoder, where that is a name alone: encoder=virchow2 weights=PATH"
    )
    encoders: dict[str, Annotated[Part, Family(ENCODERS)]] = option(
        {},
        "in place of encoder: several that share one read of the tiles, [encoder, ...] "
        "or {name: encoder, ...}; each writes out/NAME as it would alone",
    )
    batch_size: int = option(64, "tiles per forward pass", unit="tiles", ge=1)
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = option(
        "auto",
        "what runs the network; auto: the fastest with a precision that leaves the "
        "embeddings as they are, tried on tiles of a cohort of 2,000 or more; torch "
        "(onnxruntime for a graph) for a smaller one",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16", "tf32"] = option(
        "auto",
        "of the forward pass; auto: float32, or another that passed with the engine",
    )
    dtype: Literal["float16", "float32"] = option("float16", "of the stored vectors")
    stain: Annotated[Part, Family(STAINS)] = option(
        AS_SCANNED, "stain normalisation, before anything else"
    )
    colour: tuple[Colour, ...] = option(
        ("rgb",), "rgb, gray (luma), or both: a column each", min_length=1
    )
    pixels_out: bool = option(
        False, "also write the tiles, as they are read, as JPEG to out/pixels"
    )
    pixels_quality: int = option(90, "of that JPEG", ge=1, le=100)
    compile: bool = option(
        False, "torch.compile the network: minutes at the start of each worker"
    )
    runtime: EmbedRuntime = EmbedRuntime()

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("weights") is None:
            return given
        encoder = given.get("encoder")
        if not isinstance(encoder, str):
            raise ValueError(
                "weights: of encoder=NAME alone; a mapping has its own: "
                "encoder='{name: NAME, weights: PATH}'"
            )
        part = {"name": encoder, "weights": given["weights"]}
        return given | {"encoder": part, "weights": None}

    @field_validator("encoders", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        names = [_name(part) for part in given]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two of them would fill the directory {name!r}: name them, "
                    "{name: encoder, ...}"
                )
        return dict(zip(names, given, strict=True))

    @field_validator("encoders")
    @classmethod
    def _safe_names(cls, given: dict[str, Part]) -> dict[str, Part]:
        check_distinct("encoders", given)
        for name in given:
            if name == PIXELS:
                raise ValueError(f"{name!r} is reserved for the tiles of pixels_out")
            if not _SAFE.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a directory name of letters, digits, . _ -"
                )
        return given

    @model_validator(mode="after")
    def _one_or_several(self) -> EmbedConfig:
        if (self.encoder is None) == (not self.encoders):
            raise ValueError(
                "give either encoder or encoders; where a YAML has the other one, "
                "encoder=null or encoders={} removes it"
            )
        return self

    def alone(self) -> list[EmbedConfig]:
        """One config for each encoder, otherwise as this one."""
        if self.encoder is not None:
            return [self]
        return [
            self.model_copy(
                update={
                    "encoder": part,
                    "encoders": {},
                    "out": self.out / name,
                    "pixels_out": False,
                }
            )
            for name, part in self.encoders.items()
        ]


@dataclass(frozen=True)
class EmbedTarget:
    """A stage directory that the job writes, independent of its other ones.

    ``config`` would write it alone; for tiles that are kept, along with embeddings.
    ``warnings``: what a user of it should know of its encoder. ``pair``: engine and
    precision of its encoder, ``is_open`` until they were tried; ``engine_check``: what
    was measured then.
    """

    out: Path
    stage: str
    recipe: dict[str, Any]
    config: EmbedConfig
    warnings: tuple[str, ...] = ()
    pair: Pair = OWN
    is_open: bool = False
    engine_check: Mapping[str, Any] = field(default_factory=dict)

    def as_pair(self, pair: Pair, engine_check: Mapping[str, Any]) -> EmbedTarget:
        """This directory with the pair that its tiles have decided."""
        recipe = self.recipe | recipe_keys(pair)
        return replace(
            self, recipe=recipe, pair=pair, is_open=False, engine_check=engine_check
        )


def make_targets(config: EmbedConfig, tiles: TileDirectory) -> list[EmbedTarget]:
    """The directories to write; builds every encoder once, so that errors show here.

    Raises:
        InputError: an encoder cannot be built or does not take the tiles; ``out`` is
            itself an embeddings directory while there are several encoders.
    """
    if config.encoders and (config.out / "manifest.json").exists():
        raise InputError(
            f"{config.out}: is an embeddings directory itself; with encoders, out is "
            "the folder of such directories: give another out"
        )
    targets = [_target(one, tiles) for one in config.alone()]
    if config.pixels_out:
        recipe = {
            "tiles": tiles.pixel_recipe,
            "quality": config.pixels_quality,
            "subsampling": SUBSAMPLING,
        }
        targets.append(EmbedTarget(config.out / PIXELS, PIXELS, recipe, config))
    return targets


def _target(config: EmbedConfig, tiles: TileDirectory) -> EmbedTarget:
    """The directory of one encoder, whose recipe is the settings that change rows."""
    assert config.encoder is not None
    encoder = components.build(ENCODERS, config.encoder, "cpu", "float32")
    check_takes(encoder, tiles.manifest.recipe["tile_px"])
    if config.compile and not isinstance(encoder, NetworkEncoder):
        raise InputError(
            f"compile: {config.encoder.name} has no network to compile; leave it out"
        )
    wanted = Wanted(config.engine, config.precision, config.compile)
    pair, is_open = decide(wanted, config.out, encoder, tiles)
    recipe = {
        "tiles": tiles.pixel_recipe,
        "encoder": {"name": config.encoder.name, "digest": encoder.digest},
        "dim": encoder.dim,
        **recipe_keys(pair),
        "dtype": config.dtype,
        "stain": stain_recipe(config.stain),
        "colour": list(config.colour),
    }
    # Only if set: directories made before this key existed were not compiled.
    recipe |= {"compile": True} if config.compile else {}
    warnings = getattr(encoder, "warnings", ())
    stage = embeddings.STAGE
    return EmbedTarget(config.out, stage, recipe, config, warnings, pair, is_open)


def _name(part: Any) -> str:
    """The directory name of an encoder given in a list."""
    keys = part if isinstance(part, Mapping) else {"name": part}
    path = str(keys.get("path", "")).rstrip("/")
    name = keys.get("model") or path.rpartition("/")[2] or keys.get("name") or ""
    return re.sub(r"[^A-Za-z0-9._-]", "_", str(name))
