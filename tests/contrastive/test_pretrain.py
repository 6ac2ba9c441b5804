import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mshisto_ray.config import InputError, validate
from mshisto_ray.contrastive import pretrain as module
from mshisto_ray.contrastive.blocks import BlockConfig, plan_block
from mshisto_ray.contrastive.feeding import Feeder
from mshisto_ray.contrastive.phases import PHASES
from mshisto_ray.contrastive.pixel_cache import PixelCacheConfig, cached
from mshisto_ray.contrastive.pretrain import pretrain
from mshisto_ray.contrastive.pretrain_config import PretrainConfig, load_index
from mshisto_ray.contrastive.reading import TileReader, check_slides
from mshisto_ray.contrastive.samples import sample_pairs
from mshisto_ray.contrastive.step import Stepper
from mshisto_ray.contrastive.tile_index import read_index
from mshisto_ray.contrastive.validation import split_patients
from mshisto_ray.encoders import checkpoint
from mshisto_ray.reporting.pair_sheet import draw_pair_sheet
from mshisto_ray.slides._open import open_slide
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import readings_of

SMALL = {
    "model": {"backbone": "test_resnet", "projection": {"hidden": [], "dim": 16}},
    "run": {"precision": "float32"},
    "batch_size": 16,
    "steps": 4,
    "validation": {"every": 2, "near_um": 100, "far_um": 400, "pairs": 40},
}


def config(phantom, out, **override) -> PretrainConfig:
    raw = {"tiles": phantom / "tiles", "out": out, **SMALL, **override}
    return validate(PretrainConfig, raw)


def quiet(line: str) -> None:
    pass


run = partial(pretrain, say=quiet)


@pytest.fixture(scope="module")
def directory(phantom):
    return TileDirectory(phantom / "tiles")


@pytest.fixture(scope="module")
def index(directory):
    return read_index(directory, list(directory.slides), {})


def test_the_index_holds_the_tiles_that_are_tissue_themselves(directory, index):
    tiles = np.arange(len(index))
    found = set()
    for t, s in zip(tiles, index.slide(tiles), strict=True):
        mpp = index.scales[index.scale(tiles[t : t + 1])[0]]
        place = int(index.row(tiles[t : t + 1])[0]), int(index.col(tiles[t : t + 1])[0])
        found.add((index.slide_ids[s], mpp, *place))
    wanted = set()
    for slide_id in directory.slides:
        for row in directory.read(slide_id).to_pylist():
            if row["own"]:
                wanted.add((slide_id, row["mpp"], row["row"], row["col"]))
    assert found == wanted
    np.testing.assert_allclose(index.pitch_um, [[32, 64, 128]] * 6)


def test_read_pixels_are_those_of_the_slide(directory, index):
    tiles = np.sort(np.random.default_rng(0).choice(len(index), 40, replace=False))
    held = TileReader(directory, index, 2)(tiles)
    assert held.readable.all()
    for place, tile in enumerate(tiles):
        one = np.array([tile])
        record = directory.slides[index.slide_ids[index.slide(one)[0]]]
        reading = readings_of(record)[index.scales[index.scale(one)[0]]]
        rows = directory.read(record["slide_id"]).to_pylist()
        key = (reading.mpp, int(index.row(one)[0]), int(index.col(one)[0]))
        (row,) = (r for r in rows if (r["mpp"], r["row"], r["col"]) == key)
        slide = open_slide(Path(record["path"]), record["reader"])
        pixels = read_tile(slide, reading, row["x"], row["y"], 64)
        slide.close()
        np.testing.assert_array_equal(held.pixels[place], pixels)


def test_blocks_are_whole_neighbourhoods_of_some_slides(index):
    blocks = BlockConfig(tiles=300, slides=3, window_um=250)
    slides = set()
    for number in range(8):
        chosen = plan_block(index, blocks, 0, number)
        np.testing.assert_array_equal(chosen, plan_block(index, blocks, 0, number))
        assert (np.diff(chosen) > 0).all() and 100 < len(chosen) < 900
        assert len(np.unique(index.slide(chosen))) == 3
        slides |= set(index.slide(chosen))
        # Every child of a tile that is held is held too.
        held = set(chosen)
        main = chosen[index.scale(chosen) == 1]
        start, stop = index.run(
            index.layer(main)[:, None] - 1,
            2 * index.row(main)[:, None] + np.arange(2),
            2 * index.col(main)[:, None],
            2 * index.col(main)[:, None] + 1,
        )
        for a, b in zip(start.ravel(), stop.ravel(), strict=True):
            assert set(range(a, b)) <= held
    assert slides == set(range(6))
    assert len(plan_block(index, BlockConfig(tiles=10**6), 0, 0)) == len(index)


def test_batches_are_the_same_from_any_step_on_and_with_a_cache(
    directory, index, phantom, tmp_path
):
    def batches(start, stop, **cache):
        settings = PixelCacheConfig(dir=tmp_path, **cache)
        feeder = Feeder(
            index,
            cached(TileReader(directory, index, 2), len(index), 64, settings),
            config(phantom, tmp_path).pairs,
            16,
            BlockConfig(tiles=200, slides=3, window_um=200, reuse=0.2),
            7,
            None,
        )
        return list(feeder(start, stop))

    whole, later = batches(0, 9), batches(4, 9)
    assert len(whole) == 9 and len(later) == 5
    for one, two in zip(whole[4:], later, strict=True):
        assert torch.equal(one.images, two.images)
        np.testing.assert_array_equal(one.positive, two.positive)
        np.testing.assert_array_equal(one.negative, two.negative)
    assert not torch.equal(whole[0].images, whole[1].images)
    for one, two in zip(whole, batches(0, 9, max_gib=0.01), strict=True):
        assert torch.equal(one.images, two.images)
        np.testing.assert_array_equal(one.positive, two.positive)


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
    told = json.loads((result.encoder / "encoder.json").read_text())
    assert told["trained_at"] == {"mpp": [0.5, 1.0, 2.0], "tile_px": 64}


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_weights(phantom, tmp_path, monkeypatch):
    whole = run(config(phantom, tmp_path / "whole"))
    kept = module._Pretraining._save

    def killing(self, step):
        kept(self, step)
        raise KilledError

    monkeypatch.setattr(module._Pretraining, "_save", killing)
    with pytest.raises(KilledError):
        run(config(phantom, tmp_path / "parts"))
    monkeypatch.undo()
    resumed = run(config(phantom, tmp_path / "parts"))
    states = [
        torch.load(tmp_path / name / "state.pt", weights_only=True)["model"]
        for name in ("whole", "parts")
    ]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
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
    if "verify" in override:
        assert last["dropped_pairs"] > 0 and 0 <= last["dead_negatives"] <= 1


def test_no_patient_is_in_training_and_validation(index):
    train, held_out = split_patients(index, 0.3, 0)
    patients = [set(index.patient[index.slide(t)]) for t in (train, held_out)]
    assert not patients[0] & patients[1] and len(patients[1]) == 2
    assert len(train) + len(held_out) == len(index)
    with pytest.raises(InputError, match="has one patient"):
        only = index.subset(np.flatnonzero(index.slide(np.arange(len(index))) == 0))
        split_patients(
            type(only)(**{**vars(only), "patient": np.zeros(6, int)}), 0.3, 0
        )


@pytest.mark.parametrize(
    "override, message",
    [
        ({"scales": [3.0]}, "has no 3 um/px; it has 0.5, 1, 2"),
        ({"batch_size": 15}, "15 images do not make whole pairs"),
        ({"label": "grade"}, "give the cohort that has this column"),
        ({"pairs": {"name": "spatial", "far_um": 9000}}, "no other tile 9000 um away"),
        ({"pairs": {"name": "multi_scale"}}, "no class labels"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    override, message, phantom, tmp_path
):
    with pytest.raises(InputError, match=message):
        load_index(config(phantom, tmp_path / "out", **override))
    assert not (tmp_path / "out").exists()


def test_a_preset_is_a_start(phantom, tmp_path):
    base = {"tiles": phantom, "out": tmp_path, "preset": "tan2023"}
    made = validate(
        PretrainConfig,
        {**base, "optimiser": {"lr": 0.5}, "loss": {"name": "nt_xent"}},
    )
    assert (made.optimiser.lr, made.optimiser.momentum) == (0.5, 0.0)
    assert made.loss.parameters == {"temperature": 0.1}


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
        }  # fmt: skip
        head = made.model.projection
        assert (made.model.backbone, head.hidden, head.dim) == tuple(sizes.values())
        assert (head.input, head.batch_norm, head.relu) == ("maps", True, False)
        optimiser = made.optimiser
        assert (optimiser.lr, optimiser.momentum) == rates[name]
        assert (optimiser.name, optimiser.decay) == ("sgd", 1e-6)
        assert (optimiser.schedule, optimiser.weight_decay) == ("constant", 0)
        assert (made.batch_size, made.best) == (64, "val_loss")


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
    plain = np.concatenate([pair.plain for pair in pairs])
    np.testing.assert_array_equal(plain, fed[0][:10])
    (seen,) = (n for n in normalised if len(n) == 16)
    shown = torch.from_numpy(np.concatenate([pair.seen for pair in pairs]))
    torch.testing.assert_close(
        shown.permute(0, 3, 1, 2) / 255, seen[:10], rtol=0, atol=0.51 / 255
    )
    assert {pair.kind for pair in pairs} <= {"alike", "unlike", "neither"}
    assert all(pair.mpp[1] in (0.5, 1.0, 2.0) for pair in pairs)
    sheet = draw_pair_sheet("drawn", pairs)
    assert sheet.height > 5 * 144 and np.asarray(sheet).std() > 10


def test_divergence_ends_with_what_to_do(phantom, tmp_path):
    # Steps so long that no forward pass stays finite.
    settings = {"name": "sgd", "lr": 1e30, "schedule": "constant"}
    with pytest.raises(InputError, match=r"diverged.*ower optimiser\.lr"):
        run(config(phantom, tmp_path / "out", optimiser=settings, steps=40))
    # No encoder of weights that say nothing.
    assert not (tmp_path / "out/encoder").exists()


def test_classes_are_held_out_in_their_share(make_index):
    labels = [0, 0, 1, 1, 1, 1, 0, 0, 1, 1]
    index = make_index(num_slides=10, side=4, labels=labels)
    _, held_out = split_patients(index, 0.2, 0)
    assert set(index.label[index.slide(held_out)]) == {0, 1}


def test_a_metric_that_cannot_be_measured_is_refused_before_training(phantom, tmp_path):
    wrong = {"best": "val_auc"}
    with pytest.raises(InputError, match=r"best: no metric 'val_auc'; there are val_"):
        run(config(phantom, tmp_path / "out", **wrong))


def test_changed_and_unreadable_slides(directory, index, tmp_path):
    record = dict(directory.slides["slide_0000"])
    other = dict(directory.slides["slide_0001"])
    tiles = np.flatnonzero(index.slide(np.arange(len(index))) < 2)
    held = directory.slides
    try:
        directory.slides = {**held, "slide_0000": {**record, "path": other["path"]}}
        with pytest.raises(InputError, match="is not the file that was tiled"):
            TileReader(directory, index, 1)(tiles)
        gone = {**record, "path": str(tmp_path / "gone.tiff")}
        directory.slides = {**held, "slide_0000": gone}
        few = np.concatenate([tiles[:5], tiles[-50:]])
        read = TileReader(directory, index, 1)(few)
        assert (~read.readable).sum() == 5
        with pytest.raises(InputError, match=r"5 of 5 tiles cannot be read.*gone.tiff"):
            TileReader(directory, index, 1)(few[:5])
    finally:
        directory.slides = held


def test_slides_that_have_moved_are_refused(directory, tmp_path, monkeypatch):
    check_slides(directory)
    record = directory.slides["slide_0000"]
    gone = {**record, "path": str(tmp_path / "gone.tiff")}
    monkeypatch.setitem(directory.slides, "slide_0000", gone)
    with pytest.raises(InputError, match=r"1 of 6 slides are not where.*gone\.tiff"):
        check_slides(directory)


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
