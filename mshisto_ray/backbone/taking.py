"""What is taken of a transformer's tokens as the embedding of a tile."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from mshisto_ray.config import InputError

# pooled: what the network itself gives before its classifier.
Take = Literal["pooled", "class_token", "patch_mean", "class_token_and_patch_mean"]


class TokenNetwork(nn.Module):
    """A transformer of timm whose features are its class token, mean patch, or both.

    Tokens are those after the last norm; registers and other extra tokens count
    neither as class token nor as patches. It has the two methods of a timm network
    that embedding calls.
    """

    def __init__(self, backbone: nn.Module, take: Take):
        super().__init__()
        self.backbone, self._take = backbone, take
        self._num_extra = int(getattr(backbone, "num_prefix_tokens", 0))
        # Normally the norm is the last layer of all tokens; where timm puts it after
        # its own mean of the patches instead, tokens have not been normalised yet.
        last = getattr(backbone, "norm", None), getattr(backbone, "fc_norm", None)
        if take != "patch_mean" and getattr(backbone, "cls_token", None) is None:
            raise InputError(
                f"encoder: take: {take}: the network has no class token; set take: "
                "pooled or patch_mean"
            )
        self._norm = last[1] if isinstance(last[0], nn.Identity) and last[1] else None

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [B, T, D] of normalised images [B, 3, H, W]."""
        tokens = self.backbone.forward_features(x)  # pyright: ignore[reportCallIssue]
        if tokens.ndim != 3:
            raise InputError(
                f"encoder: take: {self._take}: the network gives maps "
                f"{tuple(tokens.shape)}, not tokens; set take: pooled"
            )
        return self._norm(tokens) if self._norm else tokens

    def forward_head(self, maps: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        """What is taken of the tokens, [B, D] or [B, 2 D]."""
        if self._take == "class_token":
            return maps[:, 0]
        patches = maps[:, self._num_extra :].mean(1)
        if self._take == "patch_mean":
            return patches
        return torch.cat([maps[:, 0], patches], 1)


def taking(network: nn.Module, take: Take) -> nn.Module:
    """The network itself for ``pooled``, else one that gives what is taken.

    Raises:
        InputError: it has no class token.
    """
    return network if take == "pooled" else TokenNetwork(network, take)
