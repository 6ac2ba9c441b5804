"""Augmentation of uint8 tiles in batched torch, one draw per image.

On the CPU a few images are processed at a time, so that their planes stay in the cache
between operations; on a GPU the whole batch is processed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from mshisto_ray.config import Config, option
from mshisto_ray.training.draws import uniforms
from mshisto_ray.training.recolour import add_noise, stain, turn_hue
from mshisto_ray.training.warp import mirror, warp

_IMAGES_AT_ONCE = 2
# Luma weights of PIL and torchvision.
_GRAY = (0.2989, 0.587, 0.114)
# Optical density of haematoxylin, eosin and DAB in red, green, blue (Ruifrok and
# Johnston 2001), a row each.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Uniform numbers drawn per image, whatever is switched on.
_DRAWS = 14
_KINDS = {"b": torch.bool, "i": torch.int64}


class AugmentConfig(Config):
    """Augmentation of each image, in this order; 0 or false skips a step."""

    flips: bool = option(
        True, "mirror left-right and top-bottom, each with probability 1/2"
    )
    quarter_turns: bool = option(True, "turn by a random multiple of 90 degrees")
    rotation: float = option(
        0.0,
        "largest random rotation, with reflection at the edges",
        "degrees",
        ge=0,
        le=180,
    )
    zoom: float = option(
        0.0, "enlarged 1 / (1 + zoom) to 1 + zoom times, about the centre", ge=0, le=1
    )
    shear: float = option(
        0.0, "largest slant along the rows, before the rotation", "degrees", ge=0, le=45
    )
    hed: float = option(
        0.0,
        "stain jitter: haematoxylin, eosin and DAB times 1 +- hed, plus +- hed "
        "of optical density",
        ge=0,
        le=0.5,
    )
    brightness: float = option(0.1, "factor 1 +- brightness", ge=0, le=1)
    contrast: float = option(0.1, "factor 1 +- contrast about mean luma", ge=0, le=1)
    saturation: float = option(0.1, "factor 1 +- saturation about luma", ge=0, le=1)
    hue: float = option(0.03, "turn of HSV hue by +- hue", "turns", ge=0, le=0.5)
    noise: float = option(
        0.0,
        "Gaussian noise of each pixel and channel: its standard deviation is drawn "
        "from 0 to noise, of a range of 1",
        ge=0,
        le=0.5,
    )

    @property
    def warps(self) -> bool:
        """Whether pixels are interpolated."""
        return bool(self.rotation or self.zoom or self.shear)

    def as_recipe(self) -> dict[str, Any]:
        """The settings, without those steps that came later and are left out."""
        later = {name for name in ("zoom", "shear", "noise") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=later)


@dataclass(frozen=True)
class Parameters:
    """Augmentation parameters of B images, each [B] or [B, ...] on the device.

    ``mirror``: bool [B, 3], left-right, top-bottom, and transposed (before these);
    ``angle``: radians counterclockwise; ``zoom``: factor, and ``slant``: its tangent,
    of what ``warp`` does besides; ``density``: [B, 3, 3] and ``shift`` [B, 3]
    on the optical densities of red, green, blue; ``brightness``, ``contrast``,
    ``saturation``: factors; ``hue``: turns; ``noise``: standard deviation, and
    ``noise_seed``: int64, of its generator.
    """

    mirror: torch.Tensor
    angle: torch.Tensor
    zoom: torch.Tensor
    slant: torch.Tensor
    density: torch.Tensor
    shift: torch.Tensor
    brightness: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor
    noise: torch.Tensor
    noise_seed: torch.Tensor

    def part(self, images: slice | torch.Tensor) -> Parameters:
        """The parameters of some of the images."""
        values = (getattr(self, field.name)[images] for field in fields(self))
        return Parameters(*values)


def draw_parameters(
    config: AugmentConfig,
    seed: int,
    step: int,
    num: int,
    device: str | torch.device = "cpu",
) -> Parameters:
    """Draw parameters of ``num`` images; image i's depend on (seed, step, i) only."""
    uniform = uniforms(seed, "augment", step, num, _DRAWS)
    signed = 2 * uniform - 1
    mirror = np.zeros((num, 3), bool)
    if config.flips:
        mirror[:, :2] = uniform[:, :2] < 0.5
    if config.quarter_turns:
        # A quarter turn is a transposition and a flip; two are both flips.
        turns = (4 * uniform[:, 2]).astype(int)
        mirror[:, 2] = turns % 2 == 1
        mirror[:, 0] ^= (turns == 1) | (turns == 2)
        mirror[:, 1] ^= (turns == 2) | (turns == 3)
    amounts = 1 + config.hed * signed[:, 8:11]
    density = np.einsum("is,bs,sj->bji", np.linalg.inv(_STAINS), amounts, _STAINS)
    shift = config.hed * signed[:, 11:14] @ _STAINS
    strengths = np.array([config.brightness, config.contrast, config.saturation])
    factors = 1 + strengths * signed[:, 4:7]
    # A stream of their own, so that draws without them are those of earlier versions.
    more = uniforms(seed, "augment_more", step, num, 4)
    zoom = (1 + config.zoom) ** (2 * more[:, 0] - 1)
    slant = np.tan(math.radians(config.shear) * (2 * more[:, 1] - 1))

    def tensor(values: np.ndarray) -> torch.Tensor:
        kind = _KINDS.get(values.dtype.kind, torch.float32)
        return torch.from_numpy(values).to(device, kind, non_blocking=True)

    return Parameters(
        tensor(mirror),
        tensor(math.radians(config.rotation) * signed[:, 3]),
        tensor(zoom),
        tensor(slant),
        tensor(density),
        tensor(shift),
        tensor(factors[:, 0]),
        tensor(factors[:, 1]),
        tensor(factors[:, 2]),
        tensor(config.hue * signed[:, 7]),
        tensor(config.noise * more[:, 2]),
        tensor((more[:, 3] * 2**53).astype(np.int64)),
    )


def augment(
    tiles: torch.Tensor,
    config: AugmentConfig,
    parameters: Parameters,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Augment uint8 RGB [B, H, W, 3]; returns [B, 3, H, W] in [0, 1].

    Tiles are square. ``dtype`` is that of the arithmetic.
    """
    if tiles.device.type != "cpu":
        return _augment(tiles, config, parameters, slice(None), dtype)
    num, height, width, _ = tiles.shape
    result = torch.empty((num, 3, height, width), dtype=dtype)
    for start in range(0, num, _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        result[part] = _augment(tiles[part], config, parameters, part, dtype)
    return result


def _augment(
    tiles: torch.Tensor,
    config: AugmentConfig,
    p: Parameters,
    part: slice,
    dtype: torch.dtype,
) -> torch.Tensor:
    x = tiles.permute(0, 3, 1, 2).contiguous()
    if not config.warps and (config.flips or config.quarter_turns):
        x = mirror(x, p.mirror[part])
    x = x.to(dtype).mul_(1 / 255)
    if config.warps:
        angle, zoom, slant = (
            values[part].to(dtype) for values in (p.angle, p.zoom, p.slant)
        )
        x = warp(x, angle, zoom, slant, p.mirror[part])
    if config.hed:
        x = stain(x, p.density[part].to(dtype), p.shift[part].to(dtype))
    if config.brightness:
        x = (x * _each(p.brightness[part], x)).clamp_(0, 1)
    if config.contrast:
        mean = _luma(x).mean(dim=(1, 2, 3), keepdim=True)
        x = _blend(x, mean, p.contrast[part])
    if config.saturation:
        x = _blend(x, _luma(x), p.saturation[part])
    if config.hue:
        x = turn_hue(x, p.hue[part].to(dtype))
    return add_noise(x, p.noise[part], p.noise_seed[part]) if config.noise else x


def _luma(x: torch.Tensor) -> torch.Tensor:
    red, green, blue = x.unbind(1)
    gray = (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])
    return gray[:, None]


def _blend(x: torch.Tensor, base: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """The mix ``base + factor * (x - base)``, clamped."""
    return torch.lerp(base, x, _each(factor, x)).clamp_(0, 1)


def _each(factor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return factor.to(x.dtype).view(-1, 1, 1, 1)
