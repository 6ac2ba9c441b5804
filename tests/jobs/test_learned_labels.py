"""Whose labels an encoder learned stays known, wherever its folders go."""

import json

import numpy as np
import pytest
import timm

from mshisto_ray import config as configs
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.encoders import checkpoint
from mshisto_ray.jobs import embed, tile
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.learned_labels import (
    keep_beside,
    learned_note,
    learned_patients,
    record_encoder,
    record_patients,
)

MODEL = "mobilenetv3_small_050"


@pytest.fixture
def trained(tmp_path):
    """A folder as a training leaves it, which read the labels of two patients."""
    folder = tmp_path / "study" / "trained"
    network = timm.create_model(MODEL, pretrained=False)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "as_is")
    backbone = {"model": MODEL, "options": {}}
    checkpoint.save(folder / "encoder", network, transform, backbone, 1024, [0.5], 64)
    recorded = {"recorded": record_patients(["p1", "p0", "p1"], "random")}
    (folder / "manifest.json").write_text(json.dumps(recorded))
    return folder


@pytest.fixture(scope="module")
def tiles(plainly, tmp_path_factory, write_slide):
    folder = tmp_path_factory.mktemp("tiles")
    write_slide(folder / "a.tiff", 0)
    (folder / "cohort.csv").write_text(f"path,patient_id\n{folder / 'a.tiff'},p0\n")
    raw = {"cohort": str(folder / "cohort.csv"), "out": str(folder / "tiles")}
    with plainly():
        tile.run(configs.validate(tile.TileConfig, raw | {"tile_px": 64}))
    return folder / "tiles"


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "checkpoint", "path": "trained/encoder"},
        {"name": "timm", "model": MODEL,
         "weights": "trained/encoder/encoder.safetensors"},
    ],
    ids=["directory", "file"],
)  # fmt: skip
def test_embeddings_record_it_of_a_relative_path(
    plain, tiles, trained, tmp_path, monkeypatch, encoder
):
    monkeypatch.chdir(trained.parent)
    raw = {"tiles": str(tiles), "out": str(tmp_path / "embeddings")}
    keys = {"encoder": encoder, "runtime": {"actors": 1}}
    config = configs.validate(embed.EmbedConfig, raw | keys)
    embed.run(config)
    monkeypatch.chdir(tmp_path)
    trained.rename(tmp_path / "elsewhere")
    found = EmbeddingDirectory(tmp_path / "embeddings")
    assert learned_patients(found) == {"p0", "p1"}
    note = learned_note(found, ["p0", "p7"])
    assert note and "labels of 1 of 2 patients (p0)" in note
    assert learned_note(found, ["p7"]) is None
    part = found.manifest.recorded["encoder"]
    assert part.get("path", part.get("weights")).startswith(str(trained.parent))


def test_a_training_that_starts_from_an_encoder_has_read_its_labels(trained):
    start = str(trained / "encoder")
    assert record_patients(["p5"], start) == {"patients_of_labels": ["p0", "p1", "p5"]}
    assert record_patients(["p5"], "pretrained") == {"patients_of_labels": ["p5"]}


def test_what_is_not_known_is_not_recorded_as_none(trained, tmp_path, make_embeddings):
    assert record_encoder({"name": "colour_stats"}) == {}
    assert record_encoder({"name": "timm", "weights": "random"}) == {}
    alone = tmp_path / "alone" / "encoder"
    alone.parent.mkdir()
    (trained / "encoder").rename(alone)
    assert record_encoder({"name": "checkpoint", "path": str(alone)}) == {}
    embeddings = make_embeddings({"a": {0.5: np.zeros((2, 3))}})
    assert learned_patients(EmbeddingDirectory(embeddings)) == frozenset()


def test_an_encoder_that_is_copied_alone_still_says_it(trained, tmp_path):
    keep_beside(trained / "encoder")
    alone = tmp_path / "alone"
    (trained / "encoder").rename(alone)
    known = {"patients_of_labels": ["p0", "p1"]}
    assert record_encoder({"name": "checkpoint", "path": str(alone)}) == known
    weights = str(alone / "encoder.safetensors")
    assert record_encoder({"name": "timm", "weights": weights}) == known
    checkpoint.build("cpu", "float32", path=str(alone))
