"""The instance network of Ilse 2018 for small histology images."""

from __future__ import annotations

from torch import nn


class NucleusNet(nn.Sequential):
    """Two convolutions and two layers of 512; images of ``side`` x ``side`` px.

    Sizes from memory of the paper's appendix (there for 27 px): not confirmed.
    """

    width = 512

    def __init__(self, side: int = 27):
        left = ((side - 3) // 2 - 2) // 2  # px a side after both convolutions
        super().__init__(
            nn.Conv2d(3, 36, 4), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(36, 48, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(48 * left * left, 512), nn.ReLU(), nn.Dropout(),
            nn.Linear(512, self.width), nn.ReLU(), nn.Dropout(),
        )  # fmt: skip
