"""Bags of several scales: from embeddings to batches, heads and predictions."""

import json

import numpy as np
import pytest
import torch
from fixtures.experiments import experiment_of, write_cohort

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil import experiment
from mshisto_ray.mil.fit import batches as module
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.fit.vote import draw
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.predict import predict
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.prediction.tile_bag import as_bags, read_slide
from mshisto_ray.store.embeddings import EmbeddingDirectory

CPU = torch.device("cpu")
SCALES = (2.0, 1.0, 0.5)


@pytest.fixture
def study(make_embeddings, tmp_path):
    """Each slide a column of tiles at three scales; the finest lacks one."""

    def sizes(rng):
        coarse = int(rng.integers(2, 6))
        return {0.5: 4 * coarse - 1, 1.0: 2 * coarse, 2.0: coarse}

    return write_cohort(make_embeddings, tmp_path, sizes)


def settings(study, **keys):
    scales = {
        "scales": SCALES,
        "combine": {"name": "cross_scale", "heads": 2, "head_dim": 3},
    }
    return experiment_of(study, **scales | keys)


def write_head(training, path):
    bags, _ = experiment.load(training)
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    result = cross_validate(bags, splits, training, CPU)
    save_head(path, result, bags, training, {"unit": "slide"})


def naive(directory, slide_id):
    """Own coarse tiles with all their finer ones by looking every parent up."""
    parts = [directory.read(slide_id, m, own_only=m == SCALES[0]) for m in SCALES]
    tiles = [list(zip(p.row.tolist(), p.values, strict=True)) for p in parts]
    found = []
    for row, value in tiles[0]:
        middle = [(r, v, [w for f, w in tiles[2] if f // 2 == r])
                  for r, v in tiles[1] if r // 2 == row]  # fmt: skip
        found.append((value, middle))
    return found


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize(
    "keys",
    [{}, {"vote": {"bags": 3, "size": 2}}, {"tiles_per_epoch": 2}],
    ids=str,
)
def test_batches_hold_every_tile_under_its_parent(study, monkeypatch, ready, keys):
    monkeypatch.setattr(module, "_READY_BYTES", 1 << 20 if ready else 0)
    training = settings(study, unit="patient", **keys)
    bags, _ = experiment.load(training)
    directory = EmbeddingDirectory(study[0])
    assert bags.scales == SCALES and bags.dims == (3, 3, 3)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(len(bags)))
    random = training.vote or training.epoch_tiles
    batches = Batches(bags, fitted, CPU, training.vote, training.epoch_tiles)
    index = np.array([10, 3])  # patient p10 has two slides
    draws = batches.all_draws(index)
    if training.epoch_tiles:
        draws = np.concatenate([batches.training_draws(index, e) for e in (1, 2)])
    h, offsets, (middle, fine), *_ = batches.draws(draws, share=False)
    coarse, second, third = [], [], []
    for bag, number in draws.tolist():
        slides = ["s10", "s11"] if bag == 10 else ["s03"]
        tiles = [tile for s in slides for tile in naive(directory, s)]
        rows = range(len(tiles))
        if random:
            rows = draw(random, bags.names[bag], len(tiles), number)
        kept = [tiles[i] for i in rows]
        coarse += [value for value, _ in kept]
        second += [[v for _, v, _ in below] for _, below in kept]
        third += [w for _, below in kept for _, _, w in below]
    plain = [fitted, *fitted.finer]

    def check(own, found, wanted):
        wanted = torch.from_numpy(np.stack(wanted)).float()
        torch.testing.assert_close(found, own(wanted))

    check(plain[0], h, coarse)
    assert offsets[-1] == len(h) and len(offsets) == len(draws) + 1
    assert middle.offsets.diff().tolist() == [len(part) for part in second]
    check(plain[1], middle.h, [v for part in second for v in part])
    assert fine.offsets.diff().tolist() == [len(part) for part in third]
    check(plain[2], fine.h, [v for part in third for v in part])


def test_coarse_tiles_that_are_only_ancestors_are_no_instances(study):
    bags, _ = experiment.load(settings(study))
    directory = EmbeddingDirectory(study[0])
    for i, name in enumerate(bags.names):
        coarse, middle, fine = (directory.read(name, m, own_only=False) for m in SCALES)
        kept = [r for r, own in zip(coarse.row, coarse.own, strict=True) if own]
        assert bags.sizes[i] == len(kept) == len(coarse.row) - 1
        bag = bags.bag(i)
        np.testing.assert_array_equal(bag.values[0], coarse.values[coarse.own])
        # Finer tiles are all that exist within these, own or not.
        inside = [r // 2 in kept for r in middle.row]
        np.testing.assert_array_equal(bag.values[1], middle.values[inside])
        inside = [r // 4 in kept for r in fine.row]
        np.testing.assert_array_equal(bag.values[2], fine.values[inside])


def test_a_head_of_bags_with_other_instances_is_refused(study, tmp_path):
    training = settings(study)
    write_head(training, tmp_path / "head")
    file = tmp_path / "head" / "model.json"
    content = json.loads(file.read_text())
    assert content.pop("instances") == "own"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="hardly any tissue, too; train it again"):
        load_head(tmp_path / "head")


def test_runs_for_evaluation_count_the_tiles_of_every_scale(study, monkeypatch):
    bags, _ = experiment.load(settings(study))
    index = np.arange(len(bags))
    fitted = fit_standardisation(bags, slide_moments(bags), index)
    batches = Batches(bags, fitted, CPU)
    monkeypatch.setattr(module, "_EVALUATION_ROWS", 60)
    runs = list(batches.in_order(index))
    assert np.concatenate(runs)[:, 0].tolist() == index.tolist() and len(runs) > 2
    for run in runs:
        h, _, finer, *_ = batches.draws(run)
        assert len(run) == 1 or len(h) + sum(len(s.h) for s in finer) <= 60


def test_each_scale_is_standardised_by_its_own_training_tiles(study):
    bags, _ = experiment.load(settings(study))
    index = np.array([4, 0])
    fitted = fit_standardisation(bags, slide_moments(bags), index)
    directory = EmbeddingDirectory(study[0])
    scales: list = [[], [], []]
    for coarse, middle in naive(directory, "s04") + naive(directory, "s00"):
        scales[0].append(coarse)
        for _, value, fine in middle:
            scales[1].append(value)
            scales[2] += fine
    for own, values in zip([fitted, *fitted.finer], scales, strict=True):
        rows = np.stack(values).astype(float)
        np.testing.assert_allclose(own.mean, rows.mean(0), rtol=1e-4)
        np.testing.assert_allclose(own.std, rows.std(0), rtol=1e-4)


@pytest.mark.parametrize("combine", ["concat", "cross_scale"])
@pytest.mark.parametrize("vote", [None, {"bags": 3, "size": 2}])
def test_a_saved_head_predicts_as_it_did_bag_by_bag(study, tmp_path, combine, vote):
    training = settings(study, combine={"name": combine}, vote=vote)
    bags, splits = experiment.load(training)
    result = cross_validate(bags, splits, training, CPU)
    save_head(tmp_path / "head", result, bags, training, {"unit": "slide"})
    head = load_head(tmp_path / "head")
    assert head.scales == SCALES and head.vote == training.vote
    whole = predict(head, bags, CPU)
    test = result.test
    starts = [0, 0]
    directories = [EmbeddingDirectory(study[0])] * 3
    for i, name in enumerate(bags.names):
        wanted = test.probabilities[test.bag == name][0]
        np.testing.assert_allclose(whole.probabilities[i], wanted, rtol=1e-5)
        slide = read_slide(head, directories, name)
        one = predict(head, as_bags(head, name, bags.patient_ids[i], [slide]), CPU)
        np.testing.assert_allclose(one.probabilities[0], wanted, rtol=1e-4)
        if combine == "concat":
            assert one.child_attention == whole.child_attention == ()
            continue
        for scale, weights in enumerate(one.child_attention):
            assert len(weights) == len(slide.finer[scale].row)
            stop = starts[scale] + len(weights)
            part = whole.child_attention[scale][starts[scale] : stop]
            np.testing.assert_allclose(weights, part, rtol=1e-4)
            starts[scale] = stop
            counts = slide.children[scale].counts
            sums = np.add.reduceat(weights, (np.cumsum(counts) - counts)[counts > 0])
            np.testing.assert_allclose(sums, np.ones(len(sums)), rtol=1e-5)


def test_one_encoder_a_scale(study, make_embeddings):
    """Conventional multi-scale models: other widths, other directories."""
    rng = np.random.default_rng(1)
    directory = EmbeddingDirectory(study[0])
    slides = {
        s: {m: rng.normal(0, 1, (directory.num_rows(s, m), 5)) for m in SCALES}
        for s in directory.slide_ids
    }
    other = make_embeddings(slides, "other")
    training = settings(
        study,
        embeddings=[str(study[0]), str(other)],
        scales=[2.0, 1.0],
        combine={"name": "concat"},
    )
    bags, splits = experiment.load(training)
    assert bags.dims == (3, 5)
    result = cross_validate(bags, splits, training, CPU)
    assert result.models[0].model.combination.width == 8


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scales": None}, r"concat and cross_scale take several \(scales"),
        ({"combine": {"name": "single"}}, "single takes one scale"),
        ({"scales": [2.0]}, "scales: give at least two"),
        ({"scale": 1.0}, r"give scale \(one\) or scales \(several\), not both"),
        ({"embeddings": ["a", "b"]}, "2 directories for 3 scales"),
        ({"combine": {"name": "sum"}}, "no 'sum' in combinations; have concat"),
        ({"combine": {"name": "concat", "heads": 2}}, "takes no parameters"),
    ],
)
def test_settings_that_do_not_fit_are_refused(study, keys, message):
    with pytest.raises(InputError, match=message):
        settings(study, **keys)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([2.0, 0.7], r"0\.7 is not in .*have 0\.5, 1\.0, 2\.0"),
        ([1.0, 2.0], "1 is not an integer multiple"),
    ],
)
def test_scales_that_are_no_chain_are_refused(study, scales, message):
    with pytest.raises(InputError, match=message):
        experiment.load(settings(study, scales=scales))


def test_a_slide_without_finer_tiles_is_noted_and_used(study, make_embeddings):
    rng = np.random.default_rng(2)
    slides = {
        f"s{i:02d}": {
            1.0: rng.normal(0, 1, (3, 4)),
            0.5: rng.normal(0, 1, (0 if i == 5 else 6, 4)),
        }
        for i in range(12)
    }
    training = settings(study, embeddings=str(make_embeddings(slides, "sparse")),
                        scales=[1.0, 0.5])  # fmt: skip
    bags, splits = experiment.load(training)
    (note,) = [n for n in bags.notes if "no tile at 0.5" in n]
    assert "1 of 12 slides" in note and "s05" in note
    result = cross_validate(bags, splits, training, CPU)
    assert np.isfinite(result.test.probabilities).all()


def test_other_scales_than_the_heads_are_refused(study, tmp_path):
    training = settings(study)
    write_head(training, tmp_path / "head")
    fewer, _ = experiment.load(settings(study, scales=[2.0, 1.0]))
    with pytest.raises(InputError, match="the head takes embeddings of encoder"):
        predict(load_head(tmp_path / "head"), fewer, CPU)
