"""Augmentation on a CPU: batched torch against torchvision, one image at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torchvision.transforms import v2

from mshisto_ray.contrastive.presets import PRESETS
from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure, interleaved
from mshisto_ray.training.augment import AugmentConfig, augment, draw_parameters

_IMAGES = 32
_TARGET = 2.0


def build(
    *,
    tile_px: Annotated[int, Field(ge=32)] = 224,
    repeats: Annotated[int, Field(ge=2)] = 9,
) -> Benchmark:
    """The augmentation of ``gildenblat2019``, uint8 to float32, one thread.

    Args:
        tile_px: side of the tiles.
        repeats: times that each way is measured, in turns; the median ratio counts.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        del folder  # nothing is written
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        found = _measure(tile_px, repeats)
        torch.set_num_threads(threads)
        return found

    return measure


def _measure(tile_px: int, repeats: int) -> dict[str, Measure]:
    rng = np.random.default_rng(0)
    shape = (_IMAGES, tile_px, tile_px, 3)
    tiles = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    pictures = [Image.fromarray(tile) for tile in tiles.numpy()]
    config = AugmentConfig(**PRESETS["gildenblat2019"]["augment"])
    each = _torchvision(config)
    ready = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def ours() -> None:
        augment(tiles, config, draw_parameters(config, 0, 0, _IMAGES))

    def tensors() -> None:
        torch.stack([each(ready(tile)) for tile in tiles.permute(0, 3, 1, 2)])

    def pil() -> None:
        torch.stack([ready(each(picture)) for picture in pictures])

    ways = {"ours": ours, "tensors": tensors, "pil": pil}
    for way in ways.values():  # the first call pays for memory
        way()
    seconds = interleaved(ways, repeats)
    rate = {name: _IMAGES / float(np.median(value)) for name, value in seconds.items()}
    found = {
        f"augment.images_per_s.{name}": Measure(rate["ours"], "1/s", baseline=rate[way])
        for name, way in (("against_tensors", "tensors"), ("against_pil", "pil"))
    }
    for way in ("tensors", "pil"):
        ratio = float(np.median(seconds[way] / seconds["ours"]))
        found[f"augment.ratio.{way}"] = Measure(ratio, "x", target=_TARGET)
    return found


def _torchvision(config: AugmentConfig) -> v2.Compose:
    """The same steps in torchvision, which does not mirror edges."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomRotation(
                (-config.rotation, config.rotation), v2.InterpolationMode.BILINEAR
            ),
            v2.ColorJitter(
                brightness=config.brightness,
                saturation=config.saturation,
                hue=config.hue,
            ),
        ]
    )
