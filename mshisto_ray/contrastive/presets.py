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

# The baseline of Gildenblat and Klaiman 2019, who give none of its settings: those of
# Wu et al. 2018, at their scale.
_WU = {
    "scales": [1.0],
    "pairs": {"name": "single_tile"},
    "loss": {
        "name": "memory_bank",
        "temperature": 0.07,
        "negatives": 4096,
        "momentum": 0.5,
    },
    "augment": {
        "flips": True,
        "quarter_turns": False,
        "rotation": 0.0,
        "zoom": 1.0,  # crops of a fifth to all of the image in the paper
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,  # and a fifth of the images gray
        "hue": 0.4,
    },
    "model": {
        "backbone": "resnet50",
        "options": {"num_classes": 0},
        "projection": {"hidden": [], "dim": 128, "input": "pooled"},
    },
    "optimiser": {
        "name": "sgd",
        "lr": 0.03,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine",  # in the paper a tenth at epochs 120, 160
    },
    "batch_size": 256,
    "blocks": {"slides": 16},
    "best": "val_near_far_auc",  # the last encoder in the paper
}

PRESETS: dict[str, dict[str, Any]] = {
    "gildenblat2019": _GILDENBLAT,
    "tan2023": _TAN,
    "wu2018": _WU,
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
    "wu2018_small": {
        **_WU,
        "loss": {**_WU["loss"], "negatives": None},  # all tiles: the exact softmax
        "model": {
            "backbone": "resnet10t",
            "options": {"num_classes": 0},
            "projection": {"hidden": [], "dim": 128, "input": "pooled"},
        },
        "batch_size": 128,
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
