"""Configuration shared by pretraining and fine-tuning."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from mshisto_ray.config import Config, InputPath, OutputPath, option
from mshisto_ray.runtime import Readers, Runtime, WorkerSize
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.augment import AugmentConfig
from mshisto_ray.training.blocks import BlockConfig
from mshisto_ray.training.model import weights_digest
from mshisto_ray.training.optimiser import OptimiserConfig
from mshisto_ray.training.pixel_cache import PixelCacheConfig

Channels = tuple[float, float, float]


class ArithmeticConfig(Config):
    """How the arithmetic is done; it changes the result only by rounding."""

    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "of the network's matrix products; auto: bfloat16 where hardware has it",
    )
    channels_last: bool = option(True, "channels-last memory layout of convolutions")
    compile: bool = option(False, "torch.compile the network")
    micro_batch: int | None = option(
        None,
        "images of a worker in memory at once; the gradient stays that of the whole "
        "batch, for a second forward pass; null: all",
        ge=1,
    )


class TrainingRuntime(Runtime, WorkerSize, Readers):
    """Workers, reading and MLflow run of a training."""

    pixel_cache: PixelCacheConfig = PixelCacheConfig()


class TrainingConfig(Config):
    """Tiles, augmentation, optimiser and steps of a training."""

    tiles: InputPath = option(text="tiles directory")
    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    cohort: InputPath | None = option(
        None,
        "table with the label and the patients; null: no classes, patients as tiled",
    )
    columns: ColumnsConfig = ColumnsConfig()
    scales: tuple[float, ...] | None = option(
        None, "to train on; null: all scales of the tiles", "um/px"
    )
    augment: AugmentConfig = AugmentConfig()
    mean: Channels = option(
        (0.485, 0.456, 0.406), "subtracted from the input, per channel on 0-1"
    )
    std: Channels = option(
        (0.229, 0.224, 0.225), "the input is divided by it, per channel on 0-1"
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    run: ArithmeticConfig = ArithmeticConfig()
    batch_size: int = option(128, "images a step, of all workers", "images", ge=2)
    steps: int = option(1000, "training steps", "steps", ge=1)
    blocks: BlockConfig = BlockConfig()
    seed: int = option(
        0, "seed of weights, draws, augmentation and held-out patients", ge=0
    )
    runtime: TrainingRuntime = TrainingRuntime()


T = TypeVar("T", bound=TrainingConfig)


def recipe_of(config: T, kind: type[T], tiles: TileDirectory) -> dict[str, Any]:
    """Everything that the trained weights depend on.

    Args:
        config: of the training, or of a job that adds keys of its own.
        kind: config class of the training; keys that a job adds are left out.
        tiles: trained on.
    """
    others = set(type(config).model_fields) - set(kind.model_fields)
    left_out = {"out", "run", "runtime", "tiles", "columns"} | others
    recipe = config.model_dump(mode="json", exclude=left_out)
    recipe["augment"] = config.augment.as_recipe()
    # A file of the same name may hold other weights.
    recipe["model"]["weights"] = weights_digest(recipe["model"]["weights"])
    return recipe | {"tiles": tiles.manifest.digest}
