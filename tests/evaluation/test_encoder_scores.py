"""A plan is the same for every encoder; scores separate a good one from noise."""

import dataclasses

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.encoder_scores import chance, difference, measure
from mshisto_ray.evaluation.labelled_tiles import LabelConfig
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.plan import QuestionConfig, make_plan
from mshisto_ray.evaluation.tile_set import read_tile_set
from mshisto_ray.store.tiles import TileDirectory

CLASSES = ["A"] * 18 + ["B"] * 12 + [None] * 6
ASKED = {"near_um": 60, "far_um": 200, "depth": 3}


@pytest.fixture
def plan_of(stages):
    """Plans for drawn slides: (config, slides, patients)."""

    def make(slides=None, patients=None, coarse=False, **config):
        slides = slides or {f"s{i:02}": CLASSES for i in range(12)}
        tiles = TileDirectory(stages.tiles(slides, patients=patients))
        labelled = read_labelled_tiles(tiles, {}, 0.5, None, LabelConfig(), None)
        ids = labelled.tiles.slide_ids
        parents = read_tile_set(tiles, {}, ids, 1.0, False) if coarse else None
        return make_plan(labelled, parents, QuestionConfig(**(ASKED | config)))

    return make


def planted(plan, strength, seed=0):
    """Noise, with each tile's class ``strength`` deviations along its own axis."""
    labels = plan.labelled.label
    noise = np.random.default_rng(seed).normal(size=(len(labels), 12))
    noise[np.arange(len(labels)), labels] += strength
    return noise.astype(np.float32)


def test_a_good_encoder_beats_noise_and_the_paired_interval_excludes_0(plan_of):
    plan = plan_of()
    good, _ = measure(planted(plan, 4), None, plan)
    noise, _ = measure(planted(plan, 0), None, plan)
    levels = chance(plan)
    for name in ("hit_at_1", "majority_at_5", "map_at_3", "auc_label", "addr_label"):
        assert good[name].interval.low > noise[name].interval.high
        gap = difference(good, noise)[name]
        assert gap.low > 0
        assert gap.value == pytest.approx(good[name].value - noise[name].value)
        assert noise[name].value == pytest.approx(levels[name], abs=0.1)
    assert good["auc_spatial"].value > 0.5 and "parent_recall_at_1" not in good
    same = difference(good, good)["hit_at_1"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert "effective_rank" not in difference(good, noise)


def test_the_score_is_the_mean_over_classes_of_means_over_queries(plan_of):
    plan = plan_of()
    scores, found = measure(planted(plan, 2), None, plan)
    task, labels = plan.retrieval, plan.labelled.label
    hits = labels[found.rows[:, 0]] == labels[task.queries]
    names = np.array(plan.labelled.classes)[labels[task.queries]]
    each = {name: hits[names == name].mean() for name in ("A", "B")}
    assert scores["hit_at_1.A"].value == pytest.approx(each["A"])
    assert scores["hit_at_1.B"].value == pytest.approx(each["B"])
    assert scores["hit_at_1"].value == pytest.approx((each["A"] + each["B"]) / 2)
    patients = plan.labelled.patient[task.queries]
    draws = np.random.default_rng(0).integers(0, 12, (1000, 12))
    for replicate in (0, 1, 999):
        rows = np.concatenate([np.flatnonzero(patients == p) for p in draws[replicate]])
        want = [hits[rows][names[rows] == name].mean() for name in ("A", "B")]
        found = scores["hit_at_1"].replicates[replicate]
        assert found == pytest.approx(np.mean(want))


def test_a_single_queried_class_has_no_rows_of_single_classes(plan_of):
    plan = plan_of(queries=["B"])
    scores, _ = measure(planted(plan, 2), None, plan)
    assert not [name for name in scores if "." in name]
    names = np.array(plan.labelled.classes)[plan.labelled.label]
    assert set(names[plan.retrieval.queries]) == {"B"}


def test_few_patients_are_resampled_by_blocks(plan_of):
    slides = {f"s{i}": CLASSES for i in range(4)}
    by_block = plan_of(slides, bootstrap={"block_um": 150})
    assert by_block.cluster_kind == "blocks of 150 um"
    # Slides of 300 um: four blocks each.
    assert len(np.unique(by_block.cluster)) == 16
    assert plan_of().cluster_kind == "patients"


def test_a_single_cluster_has_no_interval_and_a_note(plan_of):
    slides = {f"s{i}": CLASSES for i in range(2)}
    plan = plan_of(slides, bootstrap={"unit": "patient"}, exclude={"by": "slide"},
                   patients={"s0": "p", "s1": "p"})  # fmt: skip
    scores, _ = measure(planted(plan, 4), None, plan)
    assert np.isnan(scores["hit_at_1"].interval.low)
    assert "all queries belong to one of the patients: no intervals" in plan.notes


def test_queries_are_drawn_per_class(plan_of):
    plan = plan_of(max_queries=20)
    counts = np.bincount(plan.labelled.label[plan.retrieval.queries])
    assert counts.tolist() == [0, 20, 20]


def test_parents_are_found_by_embeddings_that_average(plan_of):
    plan = plan_of(coarse=True)
    values = planted(plan, 0)
    assert plan.coarse is not None
    parents = plan.labelled.tiles.parents(plan.coarse)
    coarse = np.zeros((len(plan.coarse), 12))
    np.add.at(coarse, parents, values)
    scores, _ = measure(values, coarse, plan)
    noise, _ = measure(values, np.random.default_rng(1).normal(size=coarse.shape), plan)
    one, ten = (f"parent_recall_at_{k}" for k in (1, 10))
    assert scores[one].interval.low > 10 * chance(plan)[one]
    assert scores[ten].interval.low > 5 * chance(plan)[ten]
    assert noise[ten].value == pytest.approx(chance(plan)[ten], abs=0.06)
    assert chance(plan)[ten] == pytest.approx(10 / (12 * 9))


def test_no_relevant_target_at_all_is_an_error_with_the_reason(plan_of):
    slides = {"s0": ["A"] * 30 + ["T"] * 2 + [None] * 4, "s1": ["A"] * 36}
    said = r"no query has a relevant target \(T: 2\): exclude.by=block within 120 um"
    with pytest.raises(InputError, match=said):
        plan_of(slides, queries=["T"], exclude={"by": "block", "block_um": 120})
    with pytest.raises(InputError, match=r"T: 2\): exclude.by=patient leaves no other"):
        plan_of(slides, queries=["T"])
    plan = plan_of(slides)
    note = "queries without a relevant target, not in the means: T: 2"
    assert note in plan.notes
    scores, _ = measure(planted(plan, 1), None, plan)
    assert "hit_at_1.T" not in scores


def test_slides_too_small_for_far_pairs_have_no_spatial_scores(plan_of):
    plan = plan_of(near_um=300, far_um=9000)
    scores, _ = measure(planted(plan, 1), None, plan)
    assert "addr_spatial" not in scores and "addr_spatial" not in chance(plan)
    assert "no spatial ADDR and AUC" in plan.notes[-1]


def test_near_has_to_be_nearer_than_far():
    with pytest.raises(
        ValueError, match=r"near_um .300. must be less than far_um .200"
    ):
        QuestionConfig(near_um=300, far_um=200)


def test_a_plan_does_not_depend_on_the_encoder_and_is_the_same_every_time(plan_of):
    one, two = plan_of(), plan_of()
    np.testing.assert_array_equal(one.retrieval.queries, two.retrieval.queries)
    for pairs in ("by_label", "by_distance"):
        for first, second in zip(
            dataclasses.astuple(getattr(one, pairs)),
            dataclasses.astuple(getattr(two, pairs)),
            strict=True,
        ):
            np.testing.assert_array_equal(first, second)
