"""The papers' settings as plain data; ``preset: NAME`` in a config starts from one.

What a paper leaves open is filled in and marked. A key given beside the preset
replaces the preset's; a part (``pairs``, ``loss``) of another name is replaced whole.
"""

from __future__ import annotations

from typing import Any

_GILDENBLAT = {
    "scales": [1.0],  # 10x
    "pairs": {
        "name": "spatial",
        "near_um": 1742.0,  # 1792 px at Camelyon16's 0.972 um/px
        "far_um": 9145.0,  # 9408 px
    },
    "loss": {
        "name": "margin",
        "squared": False,
        "normalize": True,  # not given
        "margin": 1.0,  # not given
    },
    "augment": {
        "flips": True,
        "quarter_turns": False,
        "rotation": 20.0,
        "brightness": 0.075,
        "saturation": 0.075,
        "hue": 0.075,
        "contrast": 0.0,
    },
    "model": {
        "backbone": "resnet50",
        "options": {"num_classes": 0},
        "projection": {"hidden": [], "dim": 128, "input": "pooled"},
    },
    "optimiser": {
        "name": "adam",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "schedule": "constant",
    },
    "batch_size": 512,  # 256 pairs
    # Windows several times as wide as near_um, or most near tiles would lack.
    "blocks": {"slides": 4, "tiles": 8192, "window_um": 4000.0},
    "best": "val_near_far_auc",
}

_TAN = {
    "scales": [0.5, 1.0, 2.0],  # 20x, 10x, 5x
    "pairs": {
        "name": "multi_scale",
        "places_per_slide": 2,  # not given
        "same_slide": "positive",
        "neutral": "ignore",
    },
    "loss": {
        "name": "supervised_contrastive",
        "temperature": 0.1,  # not given
        "denominator": "all",
        "reduction": "mean",
    },
    "augment": {
        "flips": True,
        "quarter_turns": True,
        "rotation": 0.0,
        "brightness": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "contrast": 0.2,  # strength not given
    },
    "model": {
        "backbone": "vgg16",
        "options": {"num_classes": 0, "pre_logits": False},
        "projection": {
            "input": "maps",
            "hidden": [1024, 1024],
            "dim": 256,
            "batch_norm": True,
            "relu": False,
        },
    },
    "optimiser": {
        "name": "sgd",
        "lr": 1e-4,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "constant",
        "decay": 1e-6,
    },
    "batch_size": 64,  # not given
    "blocks": {"slides": 16},  # so that a block holds every class
    "best": "val_loss",
}

PRESETS: dict[str, dict[str, Any]] = {
    "gildenblat2019": _GILDENBLAT,
    "tan2023": _TAN,
    # The same structures, sized for a CPU: a small network and as many images as it
    # learns from in minutes. Thresholds are a config's own: small slides have no tile
    # nine millimetres away.
    "gildenblat2019_small": {
        **_GILDENBLAT,
        "model": {
            "backbone": "resnet10t",
            "options": {"num_classes": 0},
            "projection": {"hidden": [], "dim": 128, "input": "pooled"},
        },
        "batch_size": 128,  # 64 pairs
        "blocks": {"slides": 16},
    },
    "tan2023_small": {
        **_TAN,
        "model": {
            "backbone": "resnet10t",
            "options": {"num_classes": 0},
            "projection": {
                "input": "maps",
                "hidden": [128, 128],
                "dim": 64,
                "batch_norm": True,
                "relu": False,
            },
        },
        "optimiser": {
            "name": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "schedule": "constant",
            "decay": 1e-6,
        },
    },
}
