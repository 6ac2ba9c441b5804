import json

import numpy as np
import pytest
import torch

from mshisto_ray.config import InputError, validate
from mshisto_ray.encoders import checkpoint
from mshisto_ray.jobs.finetune import FinetuneJobConfig, check
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.store.manifest import read_manifest
from mshisto_ray.tile_classification.finetune import STAGE, finetune
from mshisto_ray.tile_classification.finetune_config import load_data
from mshisto_ray.training.loop import Training
from mshisto_ray.training.reading import IndexedTileReader


def quiet(line: str) -> None:
    pass


SIGNS = {
    "target": {"column": "annotation", "classes": ["(unannotated)", "fine_sign"]},
    "scales": [0.5],
}


@pytest.mark.slow  # trains a network on pixels until it has learnt
def test_a_sign_that_colour_shows_is_learnt(config, coloured):
    settings = config(
        **SIGNS,
        batch_size=32,
        steps=40,
        validation={"share": 0.34, "every": 20, "tiles": 300},
    )
    result = finetune(settings, quiet)
    last = result.history[-1]
    assert last["val_auroc"] > 0.95 and last["val_balanced_accuracy"] > 0.7
    assert last["val_loss"] < result.history[0]["val_loss"]
    assert "val_slide_auroc" not in last  # a slide has tiles of both classes
    # What it learnt is in the encoder, not only in its head.
    data = load_data(settings)
    encoder = checkpoint.build("cpu", "float32", path=str(result.encoder))
    tiles = np.arange(len(data.held_out.index))
    rng = np.random.default_rng(0)
    signs = rng.permutation(tiles[data.held_out.code == 1])[:40]
    plain = rng.permutation(tiles[data.held_out.code == 0])[:40]
    chosen = np.sort(np.concatenate([signs, plain]))
    held = IndexedTileReader(data.tiles, data.held_out.index, 1)(chosen)
    features = encoder(held.pixels)
    assert features.shape == (len(chosen), 96)
    code = data.held_out.code[chosen]
    apart = features[code == 1].mean(0) - features[code == 0].mean(0)
    score = features @ apart
    assert auroc(np.stack([-score, score], 1), code) > 0.9
    head = checkpoint.build(
        "cpu", "float32", path=str(result.encoder), output="projection"
    )
    assert head(held.pixels).shape == (len(chosen), 2)


def test_slides_are_scored_by_the_mean_of_their_tiles(config):
    settings = config(validation={"share": 0.34, "every": 4, "tiles": 10**6})
    result = finetune(settings, quiet)
    data = load_data(settings)
    path = str(result.encoder)
    head = checkpoint.build("cpu", "float32", path=path, output="projection")
    held_out, index = data.held_out, data.held_out.index
    held = IndexedTileReader(data.tiles, index, 1)(np.arange(len(index)))
    logits = torch.from_numpy(head(held.pixels)).double()
    probabilities = logits.softmax(1).numpy()
    hits, slides = [], {}
    for tile, row in enumerate(probabilities):
        code = held_out.code[tile]
        hits.append((code, row.argmax() == code))
        slides.setdefault((int(index.slide(np.array([tile]))[0]), code), []).append(row)
    share = [np.mean([hit for c, hit in hits if c == code]) for code in (0, 1)]
    last = result.history[-1]
    assert last["val_balanced_accuracy"] == pytest.approx(np.mean(share))
    assert last["val_auroc"] == pytest.approx(auroc(probabilities, held_out.code))
    means = np.stack([np.mean(rows, axis=0) for rows in slides.values()])
    codes = np.array([code for _, code in slides])
    assert last["val_slide_auroc"] == pytest.approx(auroc(means, codes))
    own = [-row[c] for row, c in zip(logits.log_softmax(1), held_out.code, strict=True)]
    assert last["val_loss"] == pytest.approx(float(torch.stack(own).mean()), rel=1e-5)
    described = json.loads((result.encoder / "encoder.json").read_text())
    assert described["trained_at"] == {"mpp": [2.0], "tile_px": 64}


class KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(config, tmp_path, monkeypatch):
    finetune(config(out=tmp_path / "whole"), quiet)
    kept = Training._save

    def killing(self, step):
        kept(self, step)
        raise KilledError

    monkeypatch.setattr(Training, "_save", killing)
    with pytest.raises(KilledError):
        finetune(config(out=tmp_path / "parts"), quiet)
    monkeypatch.undo()
    finetune(config(out=tmp_path / "parts"), quiet)
    states = [
        torch.load(tmp_path / name / "state.pt", weights_only=True)["model"]
        for name in ("whole", "parts")
    ]
    assert all(torch.equal(v, states[1][name]) for name, v in states[0].items())
    learned = read_manifest(tmp_path / "parts", STAGE).recorded["patients_of_labels"]
    whole = load_data(config(out=tmp_path / "parts")).tiles.slides.values()
    assert learned == sorted({slide["patient_id"] for slide in whole})
    kept = json.loads((tmp_path / "parts" / "encoder" / "labels.json").read_text())
    assert kept == {"patients_of_labels": learned}


def test_a_training_starts_from_an_encoder_directory(config, tmp_path):
    first = finetune(config(out=tmp_path / "first"), quiet)
    network = {"backbone": "test_resnet", "weights": str(first.encoder)}
    # A step that moves nothing leaves what it started from.
    still = {"name": "sgd", "lr": 1e-30, "weight_decay": 0}
    frozen = network | {"norm": "frozen"}
    settings = config(out=tmp_path / "next", model=frozen, optimiser=still, steps=1)
    again = finetune(settings, quiet)
    digests = [
        json.loads((run.encoder / "encoder.json").read_text())["digest"]
        for run in (first, again)
    ]
    assert digests[0] == digests[1]
    other = network | {"backbone": "resnet10t"}
    with pytest.raises(InputError, match=r"give model\.backbone=test_resnet"):
        finetune(config(out=tmp_path / "a", model=other), quiet)
    with pytest.raises(InputError, match=r"with others: give mean=\[0\.485"):
        finetune(config(out=tmp_path / "b", model=network, mean=[0.5] * 3), quiet)


def test_another_recipe_or_label_is_refused(config, coloured, tmp_path):
    finetune(config(steps=1), quiet)
    with pytest.raises(InputError, match=r"another recipe \(steps: 1 -> 2\)"):
        finetune(config(steps=2), quiet)
    # The same classes in another file are the same training.
    table = (coloured / "cohort.csv").read_text()
    copy = tmp_path / "copy.csv"
    copy.write_text(table)
    finetune(config(steps=1, cohort=copy), quiet)
    header, first, *rest = table.splitlines()
    cells = first.split(",")
    place = header.split(",").index("label_fine")
    cells[place] = {"negative": "positive"}.get(cells[place], "negative")
    copy.write_text("\n".join([header, ",".join(cells), *rest]))
    with pytest.raises(InputError, match=r"another recipe \(labels: "):
        finetune(config(steps=1, cohort=copy), quiet)


def test_the_job_refuses_what_its_workers_cannot_do(config):
    def job(**override):
        given = config().model_dump(mode="json") | {"workers": 2} | override
        return validate(FinetuneJobConfig, given)

    check(job())
    with pytest.raises(InputError, match=r"batch_size: 7 .* 2 worker.*multiple of 2"):
        check(job(batch_size=7))
    with pytest.raises(InputError, match=r"run\.micro_batch: .* model\.norm=frozen"):
        check(job(run={"micro_batch": 2}))
    # One process made it, and its recipe does not name workers.
    finetune(config(steps=1), quiet)
    with pytest.raises(InputError, match=r"recipe \(workers_normalising_apart: absent"):
        check(job(steps=1))


def test_metrics_that_are_not_measured_are_refused(config):
    with pytest.raises(InputError, match="best: Input should be 'val_loss', 'val_auro"):
        config(best="val_f1")
    with pytest.raises(InputError, match="a slide has tiles of several classes"):
        load_data(config(**SIGNS, best="val_slide_auroc"))


def test_a_batch_has_room_for_every_class(config):
    wanted = {"column": "annotation"}
    with pytest.raises(InputError, match="2 images are fewer than the"):
        load_data(config(target=wanted, scales=[0.5], batch_size=2))
