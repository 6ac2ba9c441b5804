import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from mshisto_ray.config import InputError, validate
from mshisto_ray.contrastive.config import PretrainConfig, load_index, pretrain_recipe
from mshisto_ray.contrastive.pretrain import STAGE, _collapse_judge, pretrain
from mshisto_ray.contrastive.samples import sample_pairs
from mshisto_ray.encoders import checkpoint
from mshisto_ray.reporting.pair_sheet import draw_pair_sheet
from mshisto_ray.store.manifest import read_manifest
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.training.clock import PHASES
from mshisto_ray.training.loop import Training
from mshisto_ray.training.step import Stepper

# The drawn slides are a millimetre wide.
NEAR = {"near_um": 100, "far_um": 400}
SMALL = {
    "pairs": {
        "name": "multi_scale",
        "same_slide": "by_distance",
        "places_per_slide": 1,
        "slides_per_batch": 1,
        "far_um": 400,  # and near_um, as by default, null
    },
    "model": {"backbone": "test_resnet", "projection": {"hidden": [], "dim": 16}},
    "run": {"precision": "float32"},
    "batch_size": 16,
    "steps": 4,
    "validation": {"every": 2, **NEAR, "pairs": 40},
}


def config(phantom, out, **override) -> PretrainConfig:
    raw = {"tiles": phantom / "tiles", "out": out, **SMALL, **override}
    return validate(PretrainConfig, raw)


def quiet(line: str) -> None:
    pass


run = partial(pretrain, say=quiet)


def test_pretraining_writes_an_encoder_that_embeds(phantom, tmp_path):
    result = run(config(phantom, tmp_path / "out"))
    assert [record["step"] for record in result.history] == [0, 2, 4]
    for record in result.history:
        assert 0 <= record["val_near_far_auc"] <= 1
        assert 0 <= record["val_recall_at_10"] <= 1
        assert record["val_loss"] > 0 and record["val_rank"] > 1
    for record in result.history[1:]:
        assert record["loss"] > 0 and record["images_per_s"] > 0
        shares = [record[f"{phase}_share"] for phase in PHASES]
        assert sum(shares) == pytest.approx(1) and min(shares) >= 0
        assert record["compute_share"] > 0.3 and record["skipped_steps"] == 0
        assert {"spread", "rank", "alignment", "uniformity"} <= record.keys()
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    best = max(result.history[1:], key=lambda record: record["val_recall_at_10"])
    assert result.metrics["val_recall_at_10"] == best["val_recall_at_10"]
    encoder = checkpoint.build("cpu", "float32", path=str(result.encoder))
    tiles = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert encoder(tiles).shape == (3, 96)
    described = json.loads((result.encoder / "encoder.json").read_text())
    assert described["trained_at"] == {"mpp": [0.5, 1.0, 2.0], "tile_px": 64}


class KilledError(Exception):
    pass


REMEMBERING = {
    "pairs": {"name": "single_tile"},
    "loss": {"name": "memory_bank", "negatives": 32},
    "best": "val_near_far_auc",
}


@pytest.mark.parametrize("keys", [{}, REMEMBERING], ids=["default", "memory"])
def test_a_killed_run_resumes_to_the_same_weights(keys, phantom, tmp_path, monkeypatch):
    whole = run(config(phantom, tmp_path / "whole", **keys))
    kept = Training._save

    def killing(self, step):
        kept(self, step)
        raise KilledError

    monkeypatch.setattr(Training, "_save", killing)
    with pytest.raises(KilledError):
        run(config(phantom, tmp_path / "parts", **keys))
    monkeypatch.undo()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # of another machine, or runtime.cpus
    resumed = run(config(phantom, tmp_path / "parts", **keys))
    assert torch.get_num_threads() == threads
    states = [
        torch.load(tmp_path / name / "state.pt", weights_only=True)
        for name in ("whole", "parts")
    ]
    for part in ("model", "loss"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name])
    assert ("memory" in states[0]["loss"]) == bool(keys)
    assert [r["step"] for r in resumed.history] == [0, 2, 4]
    for one, two in zip(whole.history, resumed.history, strict=True):
        for key in ("loss", "val_loss", "val_recall_at_10", "val_near_far_auc"):
            assert one.get(key) == two.get(key)


@pytest.mark.parametrize(
    "override",
    [
        {
            "pairs": {"name": "spatial", "near_um": 100, "far_um": 400},
            "loss": {"name": "margin"},
            "verify": 0.5,
            "best": "val_near_far_auc",
        },
        {"pairs": {"name": "same_tile"}},
        {"preset": "tan2023_small", "label": "texture"},
    ],
    ids=["spatial", "same_tile", "tan2023_small"],
)
def test_other_pairs_and_losses_run(override, phantom, tmp_path):
    if "label" in override:
        (header, *_) = (phantom / "cohort.csv").read_text().splitlines()
        label = header.split(",")[-1]
        override = {**override, "cohort": phantom / "cohort.csv", "label": label}
    result = run(config(phantom, tmp_path / "out", **override, seed=1))
    last = result.history[-1]
    assert np.isfinite(last["loss"]) and result.encoder.is_dir()
    recorded = read_manifest(tmp_path / "out", STAGE).recorded
    assert bool(recorded["patients_of_labels"]) == ("label" in override)
    if "verify" in override:
        assert last["dropped_pairs"] > 0 and 0 <= last["dead_negatives"] <= 1


@pytest.mark.parametrize(
    "override, message",
    [
        ({"scales": [3.0]}, "has no 3 um/px; it has 0.5, 1, 2"),
        ({"batch_size": 15}, "15 images do not make whole pairs"),
        (
            {"loss": {"name": "memory_bank"}},
            "loss memory_bank compares each tile .* take pairs.name=single_tile",
        ),
        (
            {"pairs": {"name": "single_tile"}},
            "single_tile pairs have none .* take loss.name=memory_bank",
        ),
        (
            {"label": "grade", "pairs": {"name": "same_tile"}},
            "label: same_tile pairs compare no classes",
        ),
        ({"label": "grade"}, "give the cohort that has this column"),
        ({"pairs": {"name": "spatial", "far_um": 9000}}, "no other tile 9000 um away"),
        ({"pairs": {"name": "multi_scale"}}, "no class labels"),
        (
            {
                "scales": [0.5],
                "pairs": {"name": "same_tile"},
                "best": "val_recall_at_10",
            },
            "best: val_recall_at_10 .* one scale only",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    override, message, phantom, tmp_path
):
    with pytest.raises(InputError, match=message):
        load_index(config(phantom, tmp_path / "out", **override))
    assert not (tmp_path / "out").exists()


def test_the_patients_are_the_cohorts(phantom, tmp_path):
    """Tiles of a folder without patients: a cohort given later keeps them together."""
    as_tiled = load_index(config(phantom, tmp_path / "out"))[1]
    table = tmp_path / "cohort.csv"
    rows = [f"{s}.tiff,{s},p{i // 2}" for i, s in enumerate(as_tiled.slide_ids)]
    table.write_text("\n".join(["path,slide_id,patient_id", *rows]) + "\n")
    index = load_index(config(phantom, tmp_path / "out", cohort=table))[1]
    assert index.patient.tolist() == [i // 2 for i in range(len(rows))]
    assert as_tiled.patient.tolist() != index.patient.tolist()
    table.write_text("path,slide_id\nother.tiff,other\n")
    with pytest.raises(InputError, match="none of its slides is in"):
        load_index(config(phantom, tmp_path / "out", cohort=table))


def test_sampled_pairs_are_the_first_that_are_trained_on(
    phantom, tmp_path, monkeypatch
):
    settings = config(phantom, tmp_path / "out", steps=1)
    fed, normalised = [], []
    kept = Stepper.__call__, Stepper.normalise

    def stepping(self, images, *others):
        fed.append(images)
        return kept[0](self, images, *others)

    def normalising(self, images):
        normalised.append(images.clone())
        return kept[1](self, images)

    monkeypatch.setattr(Stepper, "__call__", stepping)
    monkeypatch.setattr(Stepper, "normalise", normalising)
    run(settings)
    pairs = sample_pairs(settings, *load_index(settings), 5)
    assert len(pairs) == 5 and pairs[0].plain.shape == (2, 64, 64, 3)
    alike, unlike = pairs[:3], pairs[3:]
    plain = np.concatenate([pair.plain for pair in alike])
    np.testing.assert_array_equal(plain, fed[0][:6])
    (seen,) = (n for n in normalised if len(n) == 16)
    shown = torch.from_numpy(np.concatenate([pair.seen for pair in alike]))
    torch.testing.assert_close(
        shown.permute(0, 3, 1, 2) / 255, seen[:6], rtol=0, atol=0.51 / 255
    )
    # Two tiles of the same batch, as they were seen there.
    for pair in unlike:
        for side in range(2):
            same = (fed[0] == torch.from_numpy(pair.plain[side])).flatten(1).all(1)
            got = torch.from_numpy(pair.seen[side]).permute(2, 0, 1) / 255
            gaps = (seen[same] - got).abs().flatten(1).amax(1)
            assert gaps.min() < 0.51 / 255
    # A place and a finer tile of it; and places far apart.
    assert [pair.kind for pair in pairs] == ["alike"] * 3 + ["unlike"] * 2
    assert all(pair.mpp[0] == 2 * pair.mpp[1] for pair in alike)
    assert all(0 < pair.apart_um < 100 for pair in alike)
    sheet = draw_pair_sheet("drawn", pairs)
    assert sheet.height > 5 * 144 and np.asarray(sheet).std() > 10


def test_divergence_ends_with_what_to_do(phantom, tmp_path):
    # Steps so long that no forward pass stays finite.
    settings = {"name": "sgd", "lr": 1e30, "schedule": "constant"}
    with pytest.raises(InputError, match=r"diverged.*ower optimiser\.lr"):
        run(config(phantom, tmp_path / "out", optimiser=settings, steps=40))
    # No encoder of diverged weights.
    assert not (tmp_path / "out/encoder").exists()


def test_a_metric_that_cannot_be_measured_is_refused_before_training(phantom, tmp_path):
    wrong = {"best": "val_auc"}
    with pytest.raises(InputError, match=r"best: no metric 'val_auc'; there are val_"):
        run(config(phantom, tmp_path / "out", **wrong))


def test_pretraining_on_a_real_slide_without_held_out_patients(
    test_data, make_tiles, tmp_path
):
    table = tmp_path / "cohort.csv"
    table.write_text(f"path\n{test_data / 'slides/CMU-1-Small-Region.svs'}\n")
    recipe = TilingRecipe(scales=(0.5, 1.0), tile_px=64)
    make_tiles(table, recipe, tmp_path / "tiles")
    override = {
        "pairs": {"name": "spatial", "near_um": 100, "far_um": 600, "mpp": 0.5},
        "loss": {"name": "margin"},
        "validation": {**SMALL["validation"], "share": 0},
    }
    result = run(config(tmp_path, tmp_path / "out", **override))
    assert [record["step"] for record in result.history] == [2, 4]
    assert checkpoint.build("cpu", "float32", path=str(result.encoder)).dim == 96


def test_other_weights_in_the_same_place_are_another_recipe(phantom, tmp_path):
    start = run(config(phantom, tmp_path / "first")).encoder
    model = {**SMALL["model"], "weights": str(start)}
    given = config(phantom, tmp_path / "second", model=model)
    tiles, index = load_index(given)
    before = pretrain_recipe(given, tiles, index)
    shutil.copytree(start, tmp_path / "copy")
    (tmp_path / "copy/notes.txt").write_text("no part of the encoder")
    moved = config(
        phantom, given.out, model={**model, "weights": str(tmp_path / "copy")}
    )
    assert pretrain_recipe(moved, tiles, index) == before
    shutil.rmtree(tmp_path / "first")
    run(config(phantom, tmp_path / "first", seed=1))
    assert pretrain_recipe(given, tiles, index) != before


def test_a_collapse_from_trained_weights_names_batch_norm(phantom):
    """``val_collapsed``, and the batch is spread: features are equal in use alone."""
    found = {"spread": 0.5, "rank": 30.0, "val_collapsed": 1.0}
    weights = phantom / "weights.safetensors"
    for keys, named in (
        ({}, False),
        ({"weights": str(weights)}, True),
        ({"weights": str(weights), "norm": "frozen"}, False),
    ):
        said = []
        own = config(phantom, phantom / "out", model={**SMALL["model"], **keys})
        _collapse_judge(own, said.append)(found, 20)
        (line,) = said
        assert "held-out patients hardly differ at step 20" in line
        assert ("set model.norm=frozen" in line) == named
