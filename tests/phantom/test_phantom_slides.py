"""Phantom slides: real files, decided by the seed, with the annotated truth."""

import numpy as np
import openslide
import pandas as pd
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.draw import draw
from mshisto_ray.phantom.layout import LABELS, patient_labels, plan
from mshisto_ray.phantom.write import truth, write_cohort, write_slide
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.tiling.annotation import annotate, read_annotation

SMALL = PhantomConfig(num_patients=8, slides_per_patient=2, size=2048, seed=3)


@pytest.fixture(scope="module", params=[True, False], ids=["matched", "coloured"])
def written(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    config = SMALL.model_copy(
        update={"colour_matched": request.param, "num_patients": 2}
    )
    return config, write_cohort(config, out)


def test_openslide_reads_them_with_their_resolution(written):
    config, path = written
    for row in read_cohort(path).rows:
        with openslide.OpenSlide(row.path) as slide:
            assert slide.properties["openslide.vendor"] == "generic-tiff"
            mpp = float(slide.properties["openslide.mpp-x"])
            assert mpp == pytest.approx(config.mpp, rel=1e-3)
            assert slide.dimensions == (config.size, config.size)
            assert slide.level_count >= 3
            assert slide.level_downsamples[:3] == pytest.approx((1, 2, 4))
            corner = np.asarray(slide.read_region((0, 0), 0, (64, 64)))[..., :3]
            assert corner.min() > 220  # glass


def test_a_slide_is_the_same_bytes_whoever_writes_it(written, tmp_path):
    config, path = written
    write_slide(config, 1, tmp_path)
    for name in ("slides/slide_0001.tiff", "annotations/slide_0001.xml"):
        assert (tmp_path / name).read_bytes() == (path.parent / name).read_bytes()


def test_the_cohort_has_labels_of_patients_and_no_mpp(written):
    _, path = written
    frame = pd.read_csv(path)
    assert list(frame.columns) == [
        "slide_id", "patient_id", "path", "annotation", *LABELS,
    ]  # fmt: skip
    assert (frame.groupby("patient_id").size() == 2).all()
    assert (frame.groupby("patient_id")[list(LABELS)].nunique() == 1).all(axis=None)


@pytest.mark.parametrize("group", ["fine_sign", "relation_sign"])
def test_annotations_are_the_planted_tiles(written, group):
    config, path = written
    for number, row in enumerate(read_cohort(path).rows):
        assert row.annotation
        regions = [r for r in read_annotation(row.annotation) if r.name == group]
        planted = truth(config, number)
        planted = planted[planted["mpp"] == config.mpp]
        px = config.tile_px
        x, y = planted["col"].to_numpy() * px, planted["row"].to_numpy() * px
        names, shares = annotate(regions, x, y, px)
        marked = (shares > 0.5) & np.array([name is not None for name in names])
        np.testing.assert_array_equal(marked, planted[group].to_numpy())


def test_labels_are_balanced_and_in_every_combination():
    rows = [tuple(patient_labels(SMALL, p).values()) for p in range(8)]
    assert len(set(rows)) == 8


def test_signs_follow_the_labels():
    for slide in range(SMALL.num_slides):
        layout = plan(SMALL, slide)
        assert layout.fine_sign.any() == layout.labels["label_fine"]
        assert layout.relation_sign.any()


def test_the_relation_is_in_neither_marginal():
    """As many cells of each context and as many signs, whatever the label."""
    counts = {False: [], True: []}
    for slide in range(SMALL.num_slides):
        layout = plan(SMALL, slide)
        rows, cols = np.nonzero(layout.relation_sign)
        contexts = layout.context[rows // 4, cols // 4]
        label = layout.labels["label_relation"]
        # All signs lie in one context, which the label determines.
        assert len(set(contexts.tolist())) == 1
        counts[label].append(
            (int(contexts[0]), len(rows) / (layout.tissue > 0.5).sum())
        )
    kinds = {label: {kind for kind, _ in found} for label, found in counts.items()}
    assert kinds[True].isdisjoint(kinds[False])
    rates = {label: np.mean([r for _, r in found]) for label, found in counts.items()}
    assert rates[True] == pytest.approx(rates[False], rel=0.05)


def test_the_witness_rate_is_kept():
    for rate in (0.01, 0.05):
        config = SMALL.model_copy(update={"witness_rate": rate})
        for slide in range(4):
            layout = plan(config, slide)
            if layout.labels["label_fine"]:
                share = layout.fine_sign.sum() / (layout.tissue >= 0.5).sum()
                assert share == pytest.approx(rate, rel=0.1)


def test_light_is_a_slope_and_can_be_even():
    """The same slide in even light differs by a plane alone."""
    uneven = draw(SMALL, 0, plan(SMALL, 0)).astype(float)
    config = SMALL.model_copy(update={"light": 0.0})
    light = (uneven - draw(config, 0, plan(config, 0)))[::16, ::16].mean(axis=2)
    y, x = np.indices(light.shape).reshape(2, -1) - (len(light) - 1) / 2
    columns = np.stack([x, y, np.ones(len(x))], axis=1)
    slopes, *_ = np.linalg.lstsq(columns, light.ravel(), rcond=None)
    assert abs(columns @ slopes - light.ravel()).max() < 1.01  # by rounding
    rise = slopes[:2] * len(light) / 2
    assert 0.5 < abs(rise).max() < 3.1 and abs(slopes[2]) < 0.2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"size": 2000}, "size=2000 is not a multiple of 256 px"),
        ({"tile_px": 70}, "tile_px=70 is not a multiple of 16"),
        ({"witness_rate": 0.9}, "witness_rate"),
        ({"num_patients": 1}, "num_patients"),
    ],
)
def test_sizes_that_do_not_fit(raw, said):
    with pytest.raises(InputError, match=said):
        configs.validate(PhantomConfig, raw)
