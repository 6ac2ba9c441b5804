"""Colour statistics of a tile: the baseline that every encoder must beat."""

from __future__ import annotations

import hashlib
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from mshisto_ray.backbone.precision import Precision
from mshisto_ray.encoders._encoder import Encoder

Share = Annotated[float, Field(ge=0, le=1)]


def build(
    device: str,
    precision: Precision,
    *,
    quantiles: tuple[Share, ...] = (0.05, 0.25, 0.5, 0.75, 0.95),
) -> Encoder:
    """Mean, standard deviation and quantiles per channel, on a scale of 0 to 1.

    Needs no network and no weights. Always computed in float32 or better, whatever
    the precision. D = 3 x (2 + number of quantiles): means, deviations, then each
    quantile, channels innermost.
    """
    return _ColourStats(device, quantiles)


class _ColourStats:
    def __init__(self, device: str, quantiles: tuple[float, ...]):
        self._device = device
        self._quantiles = torch.tensor(quantiles, dtype=torch.float64, device=device)
        self.dim = 3 * (2 + len(quantiles))
        described = f"colour_stats 1 {quantiles}"
        self.digest = hashlib.blake2b(described.encode(), digest_size=16).hexdigest()

    @torch.inference_mode()
    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to float32 [B, D]; exact from 256-bin histograms."""
        pixels = torch.from_numpy(np.ascontiguousarray(tiles)).to(self._device)
        num, height, width, _ = pixels.shape
        flat = pixels.permute(0, 3, 1, 2).reshape(num * 3, height * width).long()
        offsets = 256 * torch.arange(num * 3, device=self._device)[:, None]
        counts = torch.bincount((flat + offsets).reshape(-1), minlength=num * 3 * 256)
        share = counts.view(num * 3, 256).double() / (height * width)
        values = torch.arange(256, device=self._device, dtype=torch.float64) / 255
        mean = share @ values
        variance = (share @ values.square() - mean.square()).clamp(min=0)
        # Quantile q: the least value with at least a share q of the pixels at or
        # below it; 1e-12 absorbs the rounding of the running sum.
        below = share.cumsum(dim=1)
        index = torch.searchsorted(
            below, (self._quantiles - 1e-12).expand(num * 3, -1).contiguous()
        )
        quantiles = values[index.clamp(max=255)]
        parts = torch.stack([mean, variance.sqrt(), *quantiles.unbind(1)], dim=0)
        parts = parts.view(-1, num, 3).permute(1, 0, 2).reshape(num, self.dim)
        return parts.float().cpu().numpy()
