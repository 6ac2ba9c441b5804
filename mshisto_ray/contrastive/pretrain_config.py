"""The config of pretraining, and the check of what it is given."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import field_validator, model_validator

from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.contrastive.augment import AugmentConfig
from mshisto_ray.contrastive.blocks import BlockConfig
from mshisto_ray.contrastive.feeding import PAIRS, check_batches
from mshisto_ray.contrastive.model import ModelConfig
from mshisto_ray.contrastive.optimiser import OptimiserConfig
from mshisto_ray.contrastive.pixel_cache import PixelCacheConfig
from mshisto_ray.contrastive.presets import PRESETS
from mshisto_ray.contrastive.tile_index import TileIndex, read_index
from mshisto_ray.contrastive.validation import ValidationConfig, split_patients
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.tiles import TileDirectory

LOSSES = "mshisto_ray.contrastive.losses"
Channels = tuple[float, float, float]


class RunConfig(Config):
    """How the arithmetic is done; none of it changes what is learnt but by rounding."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1...")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "of the network's products; auto: bfloat16 where hardware has it"
    )
    channels_last: bool = option(True, "memory layout of convolutions")
    compile: bool = option(False, "torch.compile the network")
    micro_batch: int | None = option(
        None,
        "images of a worker in memory at once, with the gradient of the whole batch "
        "for a second forward pass; null: all",
        ge=1,
    )
    accumulation: Literal["cached", "plain"] = option(
        "cached", "how micro-batches make up a batch; plain sums are refused"
    )

    @field_validator("accumulation")
    @classmethod
    def _is_exact(cls, value: str) -> str:
        if value == "plain":
            raise ValueError(
                "plain sums of micro-batches are another loss than the batch's: an "
                "image of one has no negatives in the others. Take cached, which is "
                "exact"
            )
        return value


class PretrainConfig(Config):
    """Contrastive pretraining of an encoder."""

    preset: (
        Literal["gildenblat2019", "gildenblat2019_small", "tan2023", "tan2023_small"]
        | None
    ) = option(None, "a paper's settings; other keys given replace its own")
    tiles: InputPath = option(text="tiles directory")
    out: OutputPath = option(text="directory to make")
    cohort: InputPath | None = option(None, "table with the label; null: no classes")
    label: str | None = option(None, "column of the slides' classes")
    scales: tuple[float, ...] | None = option(None, "null: all tiles' scales", "um/px")
    pairs: Annotated[Part, Family(PAIRS)] = option(
        Part.model_validate(
            {
                "name": "multi_scale",
                "same_slide": "negative",
                "neutral": "negative",
                "places_per_slide": 16,
            }
        ),
        "which tiles are alike",
    )
    loss: Annotated[Part, Family(LOSSES)] = option(Part(name="nt_xent"), "their loss")
    verify: float | None = option(
        None,
        "drop pairs whose appearance contradicts their label: quantile of the other "
        "kind's distances; null: keep all",
        gt=0,
        lt=1,
    )
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    mean: Channels = option((0.485, 0.456, 0.406), "of the input, per channel on 0-1")
    std: Channels = option((0.229, 0.224, 0.225), "likewise")
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig = RunConfig()
    batch_size: int = option(128, "images a step, two a pair", "images", ge=4)
    steps: int = option(1000, "of training", "steps", ge=1)
    blocks: BlockConfig = BlockConfig()
    pixel_cache: PixelCacheConfig = PixelCacheConfig()
    readers: int = option(2, "threads that read slides", "threads", ge=1)
    validation: ValidationConfig = ValidationConfig()
    best: str = option(
        "val_recall_at_10", "metric of the encoder that is kept; losses: the lowest"
    )
    on_collapse: Literal["warn", "stop"] = option("warn", "when features collapse")
    seed: int = option(0, "weights, pairs, augmentation, held-out patients", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, raw: Any) -> Any:
        name = raw.get("preset") if isinstance(raw, dict) else None
        return _merged(PRESETS[name], raw) if name in PRESETS else raw


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` on top; a part of another name is replaced whole."""
    result = dict(base)
    for key, value in over.items():
        old, result[key] = result.get(key), value
        if isinstance(value, dict) and isinstance(old, dict):
            name = old.get("name")
            if value.get("name", name) == name:
                result[key] = _merged(old, value)
    return result


def load_index(config: PretrainConfig) -> tuple[TileDirectory, TileIndex]:
    """The tiles and their index, checked against the config.

    Raises:
        InputError: no such scales, labels, or pairs.
    """
    tiles = TileDirectory(config.tiles)
    labels: dict[str, int] = {}
    if config.label:
        if config.cohort is None:
            raise InputError("label: give the cohort that has this column")
        column = read_cohort(config.cohort, check_files=False).column(config.label)
        names = sorted({value for value in column.values() if value is not None})
        labels = {s: names.index(v) for s, v in column.items() if v is not None}
        if not labels.keys() & tiles.slides.keys():
            raise InputError(
                f"{config.cohort}: none of its slides is in {config.tiles}"
            )
    index = read_index(tiles, list(tiles.slides), labels, config.scales)
    train, _ = split_patients(index, config.validation.share, config.seed)
    check_batches(index.subset(train), config.pairs, config.batch_size)
    return tiles, index
