"""The input transform of a network: resizing or cropping, then mean and deviation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from mshisto_ray.backbone.resizing import Interpolation, resize
from mshisto_ray.config import InputError

Fit = Literal["as_is", "resize", "crop", "resize_crop"]
# Keys that transforms had before others were added: a transform that uses none of the
# others is described, and so digested, as it always was.
_FIRST = ("mean", "std", "size", "fit")


@dataclass(frozen=True)
class InputTransform:
    """The transform from uint8 RGB to the input that the network was trained on.

    ``mean`` and ``std`` per channel, on a scale of 0 to 1. ``fit``: tiles enter
    ``as_is``, are resized or cropped in the centre to ``size`` px, or resized to
    ``resize_to`` px and then cropped. ``interpolation``: bilinear or bicubic,
    antialiased, rounded and limited to 8 bits as Pillow does, which the cards of
    published networks use; None: bicubic, antialiased, neither rounded nor limited.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    fit: Fit
    interpolation: Interpolation = None
    resize_to: int | None = None

    def describe(self) -> dict[str, Any]:
        """The values as JSON holds them, without those of later keys that are unset."""
        values = asdict(self).items()
        return {key: v for key, v in values if key in _FIRST or v is not None}

    def apply(self, tiles: torch.Tensor) -> torch.Tensor:
        """uint8 or float [B, H, W, 3] on 0 to 255 to input [B, 3, size, size].

        Raises:
            InputError: the tiles are smaller than the crop.
        """
        batch = tiles.permute(0, 3, 1, 2)
        if batch.device.type == "cpu":
            # A plane a channel: resampled in two thirds of the time, standardised in a
            # tenth. The values are the same.
            batch = batch.contiguous()
        batch = _fit(batch, self).float()
        mean, std = (
            torch.tensor(values, device=batch.device).view(1, 3, 1, 1) * 255
            for values in (self.mean, self.std)
        )
        # Of whole numbers it is new memory, and may change.
        centred = batch.sub_(mean) if tiles.dtype == torch.uint8 else batch - mean
        return centred.div_(std)


def _fit(batch: torch.Tensor, transform: InputTransform) -> torch.Tensor:
    size = transform.size
    if transform.fit == "as_is" or batch.shape[-2:] == (size, size):
        return batch
    if transform.fit == "resize":
        return resize(batch, size, transform.interpolation)
    if transform.fit == "resize_crop":
        wanted = transform.resize_to or size
        batch = resize(batch, wanted, transform.interpolation)
    return _crop(batch, size)


def _crop(batch: torch.Tensor, size: int) -> torch.Tensor:
    top, left = (batch.shape[-2] - size) // 2, (batch.shape[-1] - size) // 2
    if min(top, left) < 0:
        raise InputError(
            f"encoder: cannot crop {batch.shape[-1]} px tiles to {size} px; set "
            "fit: resize, or a smaller size"
        )
    return batch[..., top : top + size, left : left + size]
