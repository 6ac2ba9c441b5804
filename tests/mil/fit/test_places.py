"""Places of tiles, from embeddings to a pooling that looks at neighbours."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.experiments import experiment_of, write_cohort

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.fit.vote import draw
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.predict import predict
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.prediction.tile_bag import as_bags, read_slide
from mshisto_ray.store.embeddings import EmbeddingDirectory

CPU = torch.device("cpu")


@pytest.fixture
def study(make_embeddings, tmp_path):
    """Each slide a column of tiles at two scales."""

    def sizes(rng):
        num = int(rng.integers(3, 9))
        return {1.0: 2 * num, 2.0: num}

    return write_cohort(make_embeddings, tmp_path, sizes)


def settings(study, **keys):
    pooling = {"name": "smooth_attention", "hidden": 5, "alpha": 0.8}
    return experiment_of(study, **{"pooling": pooling} | keys)


SCALES = {"scales": [2.0, 1.0], "combine": {"name": "concat"}}


@pytest.mark.parametrize("keys", [{"scale": 2.0}, SCALES, "views"], ids=str)
def test_places_are_those_of_the_instances(study, keys):
    if keys == "views":
        other = study[0].with_name("other")
        shutil.copytree(study[0], other)
        views = [{"embeddings": str(path), "mpp": 2.0} for path in (study[0], other)]
        keys = {"embeddings": None, "views": views}
    bags, _ = experiment.load(settings(study, unit="patient", **keys))
    directory = EmbeddingDirectory(study[0])
    for i, name in enumerate(bags.names):
        slides = ["s10", "s11"] if name == "p10" else [f"s{int(name[1:]):02d}"]
        found = bags.bag_places(i)
        assert len(found) == bags.sizes[i]
        for slide in slides:
            part = directory.read(slide, 2.0)
            own, found = found[: len(part.row)], found[len(part.row) :]
            assert np.diff(own, axis=0).tolist() == [[1, 0]] * (len(own) - 1)
            assert own[0, 0] % (1 << 24) == part.row[0] and own[0, 1] == 0
        assert not len(found)
    two = bags.bag_places(bags.names.index("p10"))
    assert np.diff(two[:, 0]).max() > 1 << 23


def test_random_tiles_keep_their_places(study):
    training = settings(study, scale=1.0, tiles_per_epoch=3)
    bags, _ = experiment.load(training)
    index = np.arange(len(bags))
    fitted = fit_standardisation(bags, slide_moments(bags), index)
    batches = Batches(bags, fitted, CPU, None, training.epoch_tiles)
    for epoch in (1, 2):
        found = batches.draws(batches.training_draws(index, epoch)).places()
        wanted = [
            bags.bag_places(i)[
                draw(training.epoch_tiles, bags.names[i], int(bags.sizes[i]), epoch)
            ]
            for i in index
        ]
        assert found.tolist() == np.concatenate(wanted).tolist()


@pytest.mark.parametrize("keys", [{"scale": 1.0}, SCALES], ids=str)
def test_a_saved_head_predicts_bag_by_bag_as_it_did(study, keys):
    training = settings(study, **keys)
    bags, splits = experiment.load(training)
    result = cross_validate(bags, splits, training, CPU)
    save_head(study[2] / "head", result, bags, training, {"unit": "slide"})
    head, test = load_head(study[2] / "head"), result.test
    directories = [EmbeddingDirectory(study[0])] * len(bags.dims)
    for i, name in enumerate(bags.names):
        slide = read_slide(head, directories, name)
        one = predict(head, as_bags(head, name, bags.patient_ids[i], [slide]), CPU)
        wanted = test.probabilities[test.bag == name][0]
        np.testing.assert_allclose(one.probabilities[0], wanted, rtol=1e-5)


def test_a_bag_table_has_no_neighbours(tmp_path):
    rows = {"bag": range(8), "label": list("ab") * 4, "features": [[1.0, 2.0]] * 8}
    pq.write_table(pa.table(rows), tmp_path / "bags.parquet")
    raw = {"bags": str(tmp_path / "bags.parquet"), "early_stopping": None}
    raw |= {"split": {"folds": 2, "validation": 0}}
    raw["pooling"] = {"name": "smooth_attention"}
    with pytest.raises(InputError, match="smooth_attention looks at neighbouring"):
        experiment.load(config.validate(ExperimentConfig, raw))
