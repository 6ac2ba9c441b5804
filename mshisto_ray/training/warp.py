"""Mirroring, rotation, slant and enlargement of images, in one interpolation."""

from __future__ import annotations

import torch
from torch.nn import functional


def mirror(x: torch.Tensor, how: torch.Tensor) -> torch.Tensor:
    """Transpose images [B, C, S, S], then flip them, where ``how`` [B, 3] is true."""
    across, down, transposed = (flag.view(-1, 1, 1, 1) for flag in how.unbind(1))
    x = torch.where(transposed, x.transpose(2, 3), x)
    x = torch.where(across, x.flip(3), x)
    return torch.where(down, x.flip(2), x)


def warp(
    x: torch.Tensor,
    angle: torch.Tensor,
    zoom: torch.Tensor,
    slant: torch.Tensor,
    how: torch.Tensor,
) -> torch.Tensor:
    """Mirror images [B, C, S, S]; then rotate, slant and enlarge them about the centre.

    One bilinear interpolation does it all, with reflection at the edges.

    Args:
        x: images.
        angle: of the rotation, radians counterclockwise [B].
        zoom: factor by which an image is enlarged [B].
        slant: columns that a pixel is moved by for each row from the middle [B].
        how: that of ``mirror``.
    """
    num, side = len(x), x.shape[-1]
    at = (2 * torch.arange(side, dtype=x.dtype, device=x.device) + 1) / side - 1
    cos, sin = angle.cos(), angle.sin()
    across, down = (1 - 2 * flag.to(x.dtype) for flag in how[:, :2].unbind(1))
    # Where a pixel is read: a matrix [2, 2] on its column and row.
    slanted = cos * slant - sin, sin * slant + cos
    read = [across * cos, across * slanted[0], down * sin, down * slanted[1]]
    read = torch.stack(read, 1) / zoom[:, None]
    read = read.view(num, 2, 2)
    read = torch.where(how[:, 2, None, None], read.flip(1), read)
    grid = x.new_empty(num, side, side, 2)
    for axis, (by_column, by_row) in enumerate(read.permute(1, 2, 0)[..., None, None]):
        torch.add(by_column * at, by_row * at[:, None], out=grid[..., axis])
    return functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
