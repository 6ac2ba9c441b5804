"""Presets have the numbers of the papers."""

import numpy as np
import pytest

from mshisto_ray import components
from mshisto_ray.config import validate
from mshisto_ray.contrastive.config import PretrainConfig
from mshisto_ray.contrastive.pair_batches import PAIRS
from mshisto_ray.training.blocks import plan_block


def test_a_preset_is_a_start(phantom, tmp_path):
    base = {"tiles": phantom, "out": tmp_path, "preset": "tan2023"}
    made = validate(
        PretrainConfig,
        {**base, "optimiser": {"lr": 0.5}, "loss": {"name": "nt_xent"}},
    )
    assert (made.optimiser.lr, made.optimiser.momentum) == (0.5, 0.0)
    assert made.loss.parameters == {"temperature": 0.1}


def test_a_key_given_leaves_the_other_defaults(phantom, tmp_path):
    given = {"augment": {"rotation": 20}, "blocks": {"tiles": 100}}
    made = validate(PretrainConfig, {"tiles": phantom, "out": tmp_path, **given})
    augment = made.augment
    assert (augment.rotation, augment.brightness, augment.hue) == (20, 0, 0)
    assert (made.blocks.tiles, made.blocks.slides) == (100, 4)


def test_gildenblat2019_has_the_papers_numbers(phantom, tmp_path):
    """Sections 2.1 to 2.3; lengths in pixels at Camelyon16's 0.972 um/px."""
    base = {"tiles": phantom, "out": tmp_path}
    for name in ("gildenblat2019", "gildenblat2019_small"):
        made = validate(PretrainConfig, {**base, "preset": name})
        pairs, loss = made.pairs.parameters, made.loss.parameters
        assert made.pairs.name == "spatial" and made.loss.name == "margin"
        assert pairs["near_um"] == pytest.approx(8 * 224 * 0.972, abs=0.5)
        assert pairs["far_um"] == pytest.approx(42 * 224 * 0.972, abs=0.5)
        assert (pairs["far_share"], pairs["in_batch"]) == (0.5, False)
        assert (loss["squared"], loss["normalize"], loss["margin"]) == (False, True, 1)
        assert made.scales == (1.0,)
        assert made.augment.model_dump() == {
            "flips": True, "quarter_turns": False, "rotation": 20.0, "hed": 0.0,
            "brightness": 0.075, "saturation": 0.075, "hue": 0.075, "contrast": 0.0,
            "zoom": 0.0, "shear": 0.0, "noise": 0.0,
        }  # fmt: skip
        head = made.model.projection
        assert (head.hidden, head.dim, head.input) == ((), 128, "pooled")
        optimiser = made.optimiser
        assert (optimiser.name, optimiser.lr) == ("adam", 1e-3)
        assert (optimiser.weight_decay, optimiser.schedule) == (0, "constant")
        assert (optimiser.warmup_steps, optimiser.decay) == (0, 0)
        backbone, images = {"gildenblat2019": ("resnet50", 2 * 256)}.get(
            name, ("resnet10t", 128)
        )
        assert (made.model.backbone, made.batch_size) == (backbone, images)
        assert made.best == "val_near_far_auc"
        assert (pairs["metric"], pairs["far_fallback"]) == ("euclidean", "skip")


def test_wu2018_has_the_papers_numbers(phantom, tmp_path):
    """Sections 3.1 to 3.3 and 4.2, at the scale of gildenblat2019."""
    backbones = {
        "wu2018": ("resnet50", 4096, 256),
        "wu2018_small": ("resnet10t", None, 128),
    }
    for name, sizes in backbones.items():
        base = {"tiles": phantom, "out": tmp_path, "preset": name}
        made = validate(PretrainConfig, base)
        assert (made.pairs.name, made.loss.name) == ("single_tile", "memory_bank")
        loss, optimiser = made.loss.parameters, made.optimiser
        assert (loss["temperature"], loss["momentum"]) == (0.07, 0.5)
        found = made.model.backbone, loss["negatives"], made.batch_size
        assert found == sizes and made.scales == (1.0,)
        assert (made.model.projection.hidden, made.model.projection.dim) == ((), 128)
        assert (optimiser.name, optimiser.lr, optimiser.momentum) == ("sgd", 0.03, 0.9)
        assert optimiser.weight_decay == 1e-4
        jitter = made.augment
        assert {jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue} == {
            0.4
        }


def test_blocks_of_gildenblat2019_hold_the_near_tiles_of_its_anchors(
    phantom, tmp_path, make_index
):
    """Near partners in memory lie about as far away as those of the whole slides."""
    base = {"tiles": phantom, "out": tmp_path, "preset": "gildenblat2019"}
    made = validate(PretrainConfig, base)
    index = make_index(num_slides=6, side=90, scales=(1.0,), mpp=(1.0,), tile_px=224)

    def mean_distance(part):
        source = components.build(PAIRS, made.pairs, part)
        tiles = source.draw(0, 0, np.arange(4000))[::2]
        first, second = (part.centre_um(column) for column in tiles.T)
        return float(np.linalg.norm(first - second, axis=1).mean())

    block = index.subset(plan_block(index, made.blocks, 0, 0))
    assert len(block) < len(index) / 3
    assert mean_distance(block) > 0.9 * mean_distance(index)


def test_tan2023_has_the_papers_numbers(phantom, tmp_path):
    """Section 3.2 and the setting of the experiments; 20x, 10x and 5x."""
    base = {"tiles": phantom, "out": tmp_path}
    small = {"backbone": "resnet10t", "hidden": (128, 128), "dim": 64}
    whole = {"backbone": "vgg16", "hidden": (1024, 1024), "dim": 256}
    rates = {"tan2023": (1e-4, 0.0), "tan2023_small": (0.05, 0.9)}
    for name, sizes in (("tan2023", whole), ("tan2023_small", small)):
        made = validate(PretrainConfig, {**base, "preset": name})
        pairs, loss = made.pairs.parameters, made.loss.parameters
        assert made.scales == (0.5, 1.0, 2.0)
        assert made.pairs.name == "multi_scale"
        assert (pairs["same_slide"], pairs["neutral"]) == ("positive", "ignore")
        assert pairs["places_per_slide"] == 2
        assert made.loss.name == "supervised_contrastive"
        assert loss["temperature"] == 0.1
        assert (loss["denominator"], loss["reduction"]) == ("all", "mean")
        assert made.augment.model_dump() == {
            "flips": True, "quarter_turns": True, "rotation": 0.0, "hed": 0.0,
            "brightness": 0.0, "saturation": 0.0, "hue": 0.0, "contrast": 0.2,
            "zoom": 0.0, "shear": 0.0, "noise": 0.0,
        }  # fmt: skip
        head = made.model.projection
        assert (made.model.backbone, head.hidden, head.dim) == tuple(sizes.values())
        assert (head.input, head.batch_norm, head.relu) == ("maps", True, False)
        optimiser = made.optimiser
        assert (optimiser.lr, optimiser.momentum) == rates[name]
        assert (optimiser.name, optimiser.decay) == ("sgd", 1e-6)
        assert (optimiser.schedule, optimiser.weight_decay) == ("constant", 0)
        assert (made.batch_size, made.best) == (64, "val_loss")
