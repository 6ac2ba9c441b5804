"""Visibility of signs: each at its own scale, and by colour only if configured.

Judged tile by tile, on written slides, by a linear model over colour statistics that is
tested on patients it was not fitted to.
"""

import dataclasses

import numpy as np
import openslide
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from mshisto_ray.encoders import colour_stats
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.draw import draw
from mshisto_ray.phantom.layout import CONTEXT_A, NO_CONTEXT, plan
from mshisto_ray.phantom.write import write_slide

CONFIG = PhantomConfig(num_patients=8, slides_per_patient=2, size=2048, seed=1)
SCALES = (0, 1, 2)  # level, and power of two over the finest mpp


def tile_features(config, slide, folder):
    """Colour statistics of each scale's tiles: [rows, cols, dim] per scale."""
    write_slide(config, slide, folder)
    encode = colour_stats.build("cpu", "float32")
    features = []
    with openslide.OpenSlide(folder / "slides" / f"slide_{slide:04d}.tiff") as file:
        for level in SCALES:
            width, height = file.level_dimensions[level]
            image = file.read_region((0, 0), level, (width, height)).convert("RGB")
            px = config.tile_px
            tiles = np.asarray(image).reshape(height // px, px, width // px, px, 3)
            tiles = tiles.swapaxes(1, 2).reshape(-1, px, px, 3)
            values = np.asarray(encode(np.ascontiguousarray(tiles)))
            features.append(values.reshape(height // px, width // px, -1))
    return features


def blocks(values, side):
    rows, cols = values.shape
    return values.reshape(rows // side, side, cols // side, side).swapaxes(1, 2)


def signs(layout, level):
    """For each sign: masks of the tiles to compare, and of those that have it."""
    side = 2**level
    tissue = blocks(layout.tissue, side).mean((2, 3)) >= 0.9
    context = layout.context.repeat(4 // side, 0).repeat(4 // side, 1)
    fine = blocks(layout.fine_sign, side).any((2, 3))
    relation = blocks(layout.relation_sign, side).any((2, 3))
    found = {"context": (context != NO_CONTEXT, context == CONTEXT_A)}
    if fine.any():
        found["fine_sign"] = (tissue, fine)
    # The cell's context would reveal the sign, so within cells of that context.
    cells = context == context[relation][0]
    found["relation_sign"] = (tissue & cells, relation)
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["matched", "coloured"])
def seen(request, tmp_path_factory):
    """AUROC of each sign at each scale by colour statistics."""
    # Showing that nothing is visible needs more slides than showing that a sign is.
    num_patients = 8 if request.param else 4
    config = CONFIG.model_copy(
        update={"colour_matched": request.param, "num_patients": num_patients}
    )
    folder = tmp_path_factory.mktemp("signs")
    rows = {}
    for slide in range(config.num_slides):
        layout = plan(config, slide)
        for level, features in enumerate(tile_features(config, slide, folder)):
            for name, (chosen, has) in signs(layout, level).items():
                patient = np.full(chosen.sum(), slide)
                # A patient's stain is no sign.
                values = StandardScaler().fit_transform(features[chosen])
                part = (values, has[chosen], patient)
                rows.setdefault((name, level), []).append(part)
    found = {}
    for key, parts in rows.items():
        x, y, patient = (np.concatenate(column) for column in zip(*parts, strict=True))
        if 0 < y.sum() < len(y):  # at the coarsest scale every cell has one
            model = LogisticRegression(class_weight="balanced", C=0.1)
            scores = cross_val_predict(
                model,
                x,
                y,
                groups=patient,
                cv=GroupKFold(4),
                method="decision_function",
            )
            found[key] = roc_auc_score(y, scores)
    return request.param, found


@pytest.mark.slow  # colours of every tile of a dozen slides
def test_colour_shows_no_matched_sign_at_any_scale(seen):
    matched, found = seen
    assert len(found) >= 8
    if matched:
        assert max(found.values()) < 0.60, found


@pytest.mark.slow  # colours of every tile of a dozen slides
def test_colour_shows_other_signs_only_at_their_own_scale(seen):
    matched, found = seen
    if not matched:
        own = {("fine_sign", 0), ("relation_sign", 0), ("context", 2)}
        assert min(found[key] for key in own) > 0.9, found
        assert max(found[key] for key in found if key not in own) < 0.60, found


@pytest.mark.parametrize("matched", [True, False])
def test_signs_vanish_where_two_by_two_pixels_are_one(matched):
    config = CONFIG.model_copy(update={"colour_matched": matched, "size": 1536})
    layout = plan(config, 0)
    everywhere = np.ones_like(layout.tissue, bool)
    nowhere = np.zeros_like(everywhere)
    pixels = []
    for fine, relation in ((nowhere, nowhere), (everywhere, everywhere)):
        changed = dataclasses.replace(layout, fine_sign=fine, relation_sign=relation)
        pixels.append(draw(config, 0, changed).astype(np.float32))
    assert np.abs(pixels[0] - pixels[1]).max() > 30
    halves = [p.reshape(768, 2, 768, 2, 3).mean((1, 3)) for p in pixels]
    np.testing.assert_array_equal(*halves)
