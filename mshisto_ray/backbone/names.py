"""Weights that other libraries name, as timm names those of the same network."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional

State = dict[str, torch.Tensor]
# auto: of timm, of transformers (ViT, DINOv2 with or without registers) or of DINOv2's
# authors, which their names tell apart. swin: Swin transformers of timm before 0.9.
# conch: the image tower of CONCH. conch_v1_5: likewise, with positions of 224 px.
Names = Literal["auto", "swin", "conch", "conch_v1_5"]
Renaming = Callable[[State, State], State]

# Trained with masked tiles, unused in a forward pass.
_MASK = ("mask_token", "embeddings.mask_token", "masked_embed")


def as_timm(state: State, wanted: State, names: Names) -> State:
    """Weights by the names of a network, as far as they have other ones.

    Args:
        state: weights as a file holds them.
        wanted: weights of the network.
        names: whose names the file has.
    """
    if names != "auto":
        return _RENAMINGS[names](state, wanted)
    if any("embeddings.patch_embeddings." in name for name in state):
        return _transformers(state, wanted)
    if any(name.endswith(("mask_token", "register_tokens")) for name in state):
        return _dinov2(state, wanted)
    return state


def _transformers(state: State, wanted: State) -> State:
    """``encoder.layer.0.attention.attention.query`` and the like."""
    prefixes = ("vit.", "dinov2.", "dinov2_with_registers.")
    for prefix in prefixes:  # of a network that was saved with a head
        if any(name.startswith(prefix) for name in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    found: State = {}
    for name, value in state.items():
        if name in _MASK or name.startswith(("pooler.", "classifier.")):
            continue
        for pattern, replacement in _TRANSFORMERS:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return _resize_positions(_fold(_join_attention(found), wanted), wanted)


_TRANSFORMERS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
)


def _join_attention(state: State) -> State:
    """Query, key and value in one matrix, as timm has them."""
    found = {
        k: v for k, v in state.items() if not re.search(r"\.(query|key|value)\.", k)
    }
    for name, value in state.items():
        if ".query." in name:
            parts = [
                value,
                *(state.get(name.replace("query", p)) for p in ("key", "value")),
            ]
            if all(part is not None for part in parts):
                found[name.replace("query", "qkv")] = torch.cat(parts)  # pyright: ignore[reportArgumentType]
    return found


def _fold(state: State, wanted: State) -> State:
    """Add the class token's position to the token itself where timm has none for it.

    timm so builds networks with registers, which have no position.
    """
    positions, place = state.get("pos_embed"), wanted.get("pos_embed")
    if positions is None or place is None or "reg_token" not in wanted:
        return state
    side = round((positions.shape[1] - 1) ** 0.5)
    if side * side != positions.shape[1] - 1 or "cls_token" not in state:
        return state
    return state | {
        "cls_token": state["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:],
    }


def _resize_positions(state: State, wanted: State, extra_side: float = 0.0) -> State:
    """Positions of a grid of another size, as their library interpolates them.

    Bicubic; antialiased in networks with registers alone. ``extra_side``: of patches,
    added to the wanted side when the scale is computed, as the code of iBOT does.
    """
    positions, place = state.get("pos_embed"), wanted.get("pos_embed")
    if positions is None or place is None or positions.shape == place.shape:
        return state
    num_wanted = place.shape[1]
    num_extra = 1 if "reg_token" not in wanted else 0
    old, new = (round((n - num_extra) ** 0.5) for n in (positions.shape[1], num_wanted))
    if old * old + num_extra != positions.shape[1]:
        return state
    grid = positions[:, num_extra:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    if extra_side:
        scale = (new + extra_side) / old
        sized = functional.interpolate(grid, scale_factor=scale, mode="bicubic")
    else:
        smooth = "reg_token" in wanted
        sized = functional.interpolate(
            grid, (new, new), mode="bicubic", antialias=smooth
        )
    flat = sized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return state | {"pos_embed": torch.cat([positions[:, :num_extra], flat], 1)}


def _dinov2(state: State, wanted: State) -> State:
    """``register_tokens``, ``mlp.w12`` and the position of the class token."""
    found = {}
    for name, value in state.items():
        if name in _MASK:
            continue
        name = name.replace("register_tokens", "reg_token")
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        found[name] = value
    return _fold(found, wanted)


def _swin(state: State, wanted: State) -> State:
    """Downsampling at the end of a stage; timm has it at the start of the next."""
    found = {}
    for name, value in state.items():
        if name.endswith(("attn_mask", "relative_position_index")):
            continue
        stage = re.match(r"layers\.(\d+)\.downsample\.", name)
        if stage:
            name = name.replace(stage[0], f"layers.{int(stage[1]) + 1}.downsample.")
        found[name] = value
    return found


def _conch(state: State, wanted: State) -> State:
    """``visual.`` of a network that also reads and writes text."""
    other = ("visual.attn_pool_caption.", "visual.ln_caption.", "visual.proj_contrast")
    return {
        name.removeprefix("visual."): value
        for name, value in state.items()
        if name.startswith("visual.") and not name.startswith(other)
    }


def _conch_v1_5(state: State, wanted: State) -> State:
    """Positions of 224 px at 448 px, as the code that was published with it."""
    inner = {
        k.removeprefix("trunk."): v for k, v in wanted.items() if k.startswith("trunk.")
    }
    trunk = {
        k.removeprefix("trunk."): v for k, v in state.items() if k.startswith("trunk.")
    }
    rest = {k: v for k, v in state.items() if not k.startswith("trunk.")}
    sized = _resize_positions(trunk, inner, extra_side=0.1)
    return rest | {f"trunk.{k}": v for k, v in sized.items() if k not in _MASK}


_RENAMINGS: dict[str, Renaming] = {
    "swin": _swin,
    "conch": _conch,
    "conch_v1_5": _conch_v1_5,
}
