"""Fine-tuning on the folds of a tile head, in one process and as a job."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError, validate
from mshisto_ray.encoders import checkpoint
from mshisto_ray.jobs import compare, embed, tile_head
from mshisto_ray.jobs import finetune as job
from mshisto_ray.jobs.finetune import FinetuneJobConfig
from mshisto_ray.learning.metrics import balanced_accuracy
from mshisto_ray.learning.tile_metrics import tile_metrics
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.finetune import finetune_share
from mshisto_ray.tile_classification.finetune_config import (
    chosen_folds,
    finetune_recipe,
    fold_data,
)
from mshisto_ray.tile_classification.head.run import read_metrics
from mshisto_ray.tile_classification.head_fold import predict_fold
from mshisto_ray.training.joint_batch import WHOLE

KEY = ["slide_id", "row", "col", "fold", "repeat"]


def quiet(line):
    pass


@pytest.fixture(scope="module")
def head(coloured, tmp_path_factory, plainly):
    """A tile head of signs against the rest, three folds by patient."""
    folder = tmp_path_factory.mktemp("head")
    raw = {
        "tiles": coloured / "tiles",
        "out": folder / "embeddings",
        "encoder": {"name": "colour_stats"},
    }
    with plainly():
        embed.run(configs.validate(embed.EmbedConfig, raw))
    raw = {
        "embeddings": folder / "embeddings",
        "tiles": coloured / "tiles",
        "scale": 0.5,
        "out": folder / "signs",
        "target": {"column": "annotation", "classes": ["(unannotated)", "fine_sign"]},
        "split": {"folds": 3, "validation": 0.3},
        "epochs": 2,
        "runtime": {"cache": {"dir": folder / "cache"}},
    }
    tile_head.run(configs.validate(tile_head.TileHeadJobConfig, raw))
    return folder / "signs"


@pytest.fixture
def against(config, head):
    """A function that makes the config of fine-tuning on the head's folds."""

    def make(**override):
        keys = {"cohort": None, "scales": None, "target": {}, "against": {"head": head}}
        given = config().model_dump(mode="json") | keys | override
        return validate(FinetuneJobConfig, given | {"out": given["out"]})

    return make


def test_a_fold_is_that_of_the_head(against, coloured, head):
    tiles = TileDirectory(coloured / "tiles")
    folds = chosen_folds(against(), tiles)
    table = pq.read_table(head / "result" / "predictions.parquet").to_pandas()
    assert len(folds) == 3
    for fold in folds:
        data = fold_data(against(), tiles, fold)
        index, samples = data.whole.index, fold.samples
        tested = fold.tiles(fold.split.test)
        names = np.array(index.slide_ids)[index.slide(tested)]
        found = set(zip(names, index.row(tested), index.col(tested), strict=True))
        own = table[table["fold"] == fold.split.fold]
        assert found == set(zip(own.slide_id, own.row, own.col, strict=True))
        code = data.whole.code[fold.number]
        np.testing.assert_array_equal(code, samples.target)
        parts = [len(data.train.index), len(data.held_out.index), len(tested)]
        assert sum(parts) == len(samples) and min(parts) > 0
        train = set(data.train.index.key)
        assert not train & set(data.held_out.index.key)
        assert not train & set(index.key[tested])


def test_a_network_is_tested_on_tiles_that_it_has_not_seen(against, coloured, tmp_path):
    tiles = TileDirectory(coloured / "tiles")
    settings = against(steps=2, gamma=2.0, augment={"zoom": 0.1, "shear": 5})
    fold = chosen_folds(settings, tiles)[1]
    data = fold_data(settings, tiles, fold)
    settings.out.mkdir()
    result = finetune_share(settings, data, quiet, WHOLE, torch.device("cpu"))
    path = str(result.encoder)
    encoder = checkpoint.build("cpu", "float32", path=path, output="projection")
    found = predict_fold(fold, tiles, encoder, 1)
    tested = np.zeros(len(found), bool)
    tested[fold.split.test] = True
    np.testing.assert_array_equal(np.isfinite(found).all(1), tested)
    np.testing.assert_allclose(found[tested].sum(1), 1, rtol=1e-5)
    # The best on validation is what was kept: its tiles score as they did then.
    split = fold.split
    swapped = split.__class__(0, 1, split.train, split.test, split.validation)
    again = predict_fold(fold.__class__(fold.samples, swapped, fold.whole, fold.number),
                         tiles, encoder, 1)[split.validation]  # fmt: skip
    if len(again) <= settings.validation.tiles:
        score = balanced_accuracy(again, fold.samples.target[split.validation])
        assert score == pytest.approx(result.metrics["val_balanced_accuracy"])
    recipes = [
        finetune_recipe(settings, fold_data(settings, tiles, each))["labels"]
        for each in chosen_folds(settings, tiles)
    ]
    assert len(set(recipes)) == 3


def test_what_does_not_fit_the_head_is_refused(against, coloured, head, tmp_path):
    tiles = TileDirectory(coloured / "tiles")

    def load(**override):
        return chosen_folds(against(**override), tiles)

    with pytest.raises(InputError, match=r"no result/config.yaml in .*elsewhere"):
        load(against={"head": tmp_path / "elsewhere"})
    with pytest.raises(InputError, match=r"cohort: tiles and classes are those of"):
        load(cohort=coloured / "cohort.csv")
    with pytest.raises(InputError, match=r"target: tiles and classes are those of"):
        load(target={"column": "annotation"})
    with pytest.raises(InputError, match="has no fold 7 of repeat None"):
        load(against={"head": head, "fold": 7})


@pytest.mark.slow  # starts a Ray of its own
@pytest.mark.ray
def test_the_job_writes_what_a_tile_head_writes(against, head, tmp_path, local_ray):
    settings = against(steps=1, validation={"share": 0.2, "every": 1, "tiles": 20})
    job.check(settings)
    job.run(settings)
    ours, theirs = (
        pq.read_table(path / "result" / "predictions.parquet").to_pandas()
        for path in (settings.out, head)
    )
    assert list(ours.columns) == list(theirs.columns)
    merged = ours.merge(theirs, on=KEY, validate="one_to_one")
    assert len(merged) == len(ours) == len(theirs)
    assert (merged.target_x == merged.target_y).all()
    metrics = read_metrics(settings.out / "result")
    assert metrics is not None
    names = json.loads(json.dumps(ours.target.unique().tolist()))
    shares = ours[[f"prob_{name}" for name in sorted(names)]].to_numpy()
    target = np.searchsorted(sorted(names), ours.target)
    patient = np.unique(ours.patient_id, return_inverse=True)[1]
    wanted = tile_metrics(shares, target, patient).values["auroc"]
    assert metrics["test_auroc_mean"] == pytest.approx(wanted)
    raw = {
        "predictions": [
            path / "result" / "predictions.parquet" for path in (settings.out, head)
        ],
        "out": tmp_path / "compared",
    }
    compare.run(configs.validate(compare.CompareConfig, raw))
    text = (tmp_path / "compared" / "summary.md").read_text()
    assert settings.out.name in text and "signs" in text
    job.run(settings)  # all is done
