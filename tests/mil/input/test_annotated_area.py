"""Bags of annotated tiles alone, against loops over tiles."""

import numpy as np
import pytest
import torch

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate, predict_tests
from mshisto_ray.mil.input.annotated_area import restrict
from mshisto_ray.store.embeddings import EmbeddingDirectory

CPU = torch.device("cpu")
SCALES = (2.0, 1.0, 0.5)


@pytest.fixture
def study(make_embeddings, write_tiles, tmp_path):
    """Eight slides, a column of tiles each; in the last none is annotated."""
    rng = np.random.default_rng(0)
    slides, marks, rows = {}, {}, ["path,label"]
    for i in range(8):
        sizes = {0.5: 23, 1.0: 12, 2.0: 6}
        name = f"s{i}"
        slides[name] = {m: rng.normal(i, 1, (n, 3)) for m, n in sizes.items()}
        marks[name] = {
            (m, r, 0): "tumour" if i < 7 and rng.random() < 0.6 else None
            for m, n in sizes.items()
            for r in range(n)
        }
        rows.append(f"{name}.svs,{'ab'[i % 2]}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    embeddings = make_embeddings(slides)
    return embeddings, write_tiles(tmp_path / "tiles", marks), marks


def settings(study, **keys):
    embeddings, *_ = study
    raw = {
        "embeddings": str(embeddings),
        "cohort": str(embeddings.parent / "cohort.csv"),
        "runtime": {"cache": {"dir": str(embeddings.parent / "cache")}},
        "split": {"folds": 2, "validation": 0},
        "hidden": [4],
        "epochs": 1,
        "early_stopping": None,
    }
    return config.validate(ExperimentConfig, raw | keys)


def wanted(directory, slide_id, mpp, marks, own_only):
    """{row: embedding} of the annotated tiles."""
    part = directory.read(slide_id, mpp, own_only=own_only)
    return {
        row: value
        for row, value in zip(part.row.tolist(), part.values, strict=True)
        if marks[slide_id][mpp, row, 0]
    }


def test_one_scale(study):
    embeddings, tiles, marks = study
    bags, _ = experiment.load(settings(study, scale=1.0))
    directory = EmbeddingDirectory(embeddings)
    area = restrict(bags, [directory], tiles, "tumour", 0.5)
    for i, name in enumerate(bags.names):
        found = wanted(directory, name, 1.0, marks, own_only=True)
        assert area.sizes[i] == len(found)
        np.testing.assert_array_equal(
            np.concatenate(area.read(i)), np.reshape(list(found.values()), (-1, 3))
        )
    assert area.sizes[7] == 0 < area.sizes[:7].min()
    assert area.features.counts.tolist() == area.sizes.tolist()


def test_tiles_on_an_edge_are_left_out(study, write_tiles, tmp_path):
    embeddings, _, marks = study
    rng = np.random.default_rng(1)
    shares = {s: {place: rng.random() for place in marks[s]} for s in marks}
    tiles = write_tiles(tmp_path / "edges", marks, shares)
    bags, _ = experiment.load(settings(study, scale=1.0))
    directory = EmbeddingDirectory(embeddings)
    area = restrict(bags, [directory], tiles, "tumour", 0.4)
    lost = 0
    for i, name in enumerate(bags.names):
        rows = wanted(directory, name, 1.0, marks, own_only=True)
        inside = [shares[name][1.0, row, 0] >= 0.4 for row in rows]
        assert area.sizes[i] == sum(inside)
        lost += len(inside) - sum(inside)
    assert area.sizes.sum() > 0 < lost


def test_several_scales_keep_annotated_children_of_annotated_parents(study):
    embeddings, tiles, marks = study
    keys = {"scales": SCALES, "combine": {"name": "concat"}}
    bags, _ = experiment.load(settings(study, **keys))
    directory = EmbeddingDirectory(embeddings)
    area = restrict(bags, [directory] * 3, tiles, "tumour", 0.5)
    for i, name in enumerate(bags.names):
        levels = [
            wanted(directory, name, m, marks, own_only=m == SCALES[0]) for m in SCALES
        ]
        member = bags.members[i][0]
        parents = list(levels[0])
        for scale, level in zip(area.finer, levels[1:], strict=True):
            held = [[r for r in level if r // 2 == p] for p in parents]
            assert scale.children[member].counts.tolist() == [len(h) for h in held]
            parents = [r for h in held for r in h]
            values = np.reshape([level[r] for r in parents], (-1, 3))
            np.testing.assert_array_equal(scale.read(member), values)


@pytest.mark.parametrize(
    "keys",
    [
        {"scale": 1.0, "vote": {"bags": 3, "size": 2}},
        {"scales": SCALES, "combine": {"name": "cross_scale", "head_dim": 2}},
    ],
)
def test_models_predict_the_area_of_the_bags_they_did_not_learn(study, keys):
    embeddings, tiles, _ = study
    training = settings(study, **keys)
    bags, splits = experiment.load(training)
    result = cross_validate(bags, splits, training, CPU)
    directories = [EmbeddingDirectory(embeddings)] * len(bags.dims)
    area = restrict(bags, directories, tiles, "tumour", 0.5)
    found = predict_tests(result, area, training, CPU)
    assert sorted(found.bag) == [f"s{i}" for i in range(7)]
    whole = predict_tests(result, bags, training, CPU)
    np.testing.assert_array_equal(whole.probabilities, result.test.probabilities)
    fold = dict(zip(result.test.bag, result.test.fold, strict=True))
    assert [fold[bag] for bag in found.bag] == found.fold.tolist()
    with pytest.raises(InputError, match="none of the bags has an instance"):
        none = restrict(bags, directories, tiles, "stroma", 0.5)
        predict_tests(result, none, training, CPU)
