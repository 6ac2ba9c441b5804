"""Layers that options of a network name: fixed tables, so that no text is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mshisto_ray.config import InputError


class ConvStem(nn.Module):
    """Patches of 4 px by three convolutions, as in CTransPath (Wang et al. 2022).

    Two convolutions of 3 x 3 with stride 2, batch norm and ReLU to an eighth and a
    quarter of the width, then one of 1 x 1; the arguments are those that timm's Swin
    transformer gives to its patch embedding.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: type[nn.Module] | None = None,
        **_unused: Any,
    ):
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = height, width
        self.patch_size = patch_size, patch_size
        self.grid_size = height // patch_size, width // patch_size
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        narrow = embed_dim // 8
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, 2 * narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(2 * narrow),
            nn.ReLU(),
            nn.Conv2d(2 * narrow, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] to patches [B, H / 4, W / 4, D]."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


def named_layers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network with classes in place of the names of layers.

    ``mlp_layer``, ``act_layer`` and ``embed_layer``; also written as code writes them
    (``timm.layers.SwiGLUPacked``, ``torch.nn.SiLU``).

    Raises:
        InputError: a layer of no known name.
    """
    found = dict(options)
    for key, table in _tables(found).items():
        given = str(found[key])
        name = given.rpartition(".")[2].lower()
        if name not in table:
            raise InputError(
                f"encoder: {key}: no layer {given!r}; have {', '.join(sorted(table))}"
            )
        found[key] = table[name]
    return found


def _tables(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table of each option that names a layer."""
    if not any(isinstance(options.get(key), str) for key in _KEYS):
        return {}
    # timm takes as long to import as torch.
    from timm.layers.create_act import get_act_layer
    from timm.layers.mlp import GluMlp, Mlp, SwiGLU, SwiGLUPacked
    from timm.layers.patch_embed import PatchEmbed

    tables = {
        "mlp_layer": {layer.__name__.lower(): layer for layer in (Mlp, GluMlp, SwiGLU)}
        | {"swiglupacked": SwiGLUPacked},
        "act_layer": {name: get_act_layer(name) for name in _ACTIVATIONS},
        "embed_layer": {"convstem": ConvStem, "patchembed": PatchEmbed},
    }
    return {key: tables[key] for key in _KEYS if isinstance(options.get(key), str)}


_KEYS = ("mlp_layer", "act_layer", "embed_layer")
# timm's names.
_ACTIVATIONS = (
    *("gelu", "gelu_tanh", "quick_gelu", "silu", "swish", "mish", "relu", "relu6"),
    *("leaky_relu", "elu", "prelu", "celu", "selu", "sigmoid", "tanh"),
    *("hard_sigmoid", "hard_swish", "hard_mish"),
)
