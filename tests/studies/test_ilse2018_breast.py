"""The study of breast images on images that the test makes."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.studies import _study, ilse2018_breast
from mshisto_ray.studies._nucleus_net import NucleusNet


@pytest.fixture
def data(tmp_path):
    """24 images of 64 x 96 px in 6 arrays; malignant ones have one red patch."""
    rng = np.random.default_rng(0)
    with (tmp_path / "cohort.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient_id", "label"])
        for i in range(24):
            pixels = rng.integers(90, 130, (70, 100, 3), dtype=np.uint8)
            pixels[:32, :32] = 255  # white, left out
            if i % 2:
                pixels[32:64, 64:96, 0] += 100
            name = f"im{i}.{('png', 'bmp', 'tif')[i % 3]}"
            Image.fromarray(pixels).save(tmp_path / name)
            writer.writerow([name, f"array{i // 4}", ("benign", "malignant")[i % 2]])
    return tmp_path


def test_patches_are_cut_row_by_row_without_white_ones():
    pixels = np.zeros((70, 100, 3), np.uint8)
    pixels[:32, 32:64] = 255
    pixels[32:64, :32] = 7
    pixels[32:56, 32:64] = 255  # three quarters white
    pixels[33:56, 64:96] = 255  # less
    found = ilse2018_breast.cut(pixels)
    assert found.shape == (4, 32, 32, 3)
    assert [int(patch[0, 0, 0]) for patch in found] == [0, 0, 7, 0]


def test_every_row_of_the_paper_and_frozen_features(data, tmp_path, make_study_config):
    keys = {"epochs": 1, "repeats": 2, "validation": 0.2}
    config = make_study_config(data, tmp_path / "out", name="ilse2018_breast", **keys)
    study = reproduce._study(config)
    units = {unit.name: unit for unit in study.units()}
    trained = [unit for unit in units.values() if unit.name.startswith("network-")]
    assert len(trained) == 6 * 2 * 6  # poolings, repeats, folds (arrays)
    names = ["colour-attention", "network-attention-0", "network-attention-1-3"]
    done = {name: units[name].run() for name in names}
    colour = done["colour-attention"].predictions
    assert len(colour) == 48 and set(colour.repeat) == {0, 1}
    for name in names[1:]:
        found = done[name].predictions
        assert set(found.repeat) == {units[name].recipe.get("repeat", 0)}
        assert len(set(found.patient_id)) * 4 == len(found)  # arrays are kept together
    table = study.table(done)
    assert "attention [2 folds]" in table and "auroc by repeat" in table
    assert "embedding_mean, published" in table and "epithelium" not in table
    assert _study.measure([done["colour-attention"]])["auroc"].value > 0.9


def test_a_network_fits_images_of_any_side():
    for side in (27, 32, 50):
        network = NucleusNet(side)
        assert network[7].in_features % 48 == 0
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 512)


def test_what_cannot_be_used_is_refused(data):
    def read(**keys):
        return ilse2018_breast.build(data, **keys)

    with pytest.raises(InputError, match=r"holds benign, malignant; wanted .*: a, b"):
        read(classes=("a", "b"))
    with pytest.raises(InputError, match="no column 'grade'"):
        read(column="grade")
    Image.new("RGB", (64, 64), "white").save(data / "im0.png")
    with pytest.raises(InputError, match=r"no patch of 32 px with tissue in im0"):
        read()
    (data / "im3.png").write_bytes(b"x")
    with pytest.raises(InputError, match="im3"):
        read()


def test_the_table_may_have_names_of_its_own(data):
    usual = ilse2018_breast.read_images(data, "label", ("benign", "malignant"))
    table = (data / "cohort.csv").read_text()
    named = table.replace("path,patient_id,label", "image,TMA,label")
    (data / "cohort.csv").write_text(named)
    with pytest.raises(InputError, match=r"give study\.columns\.path=image"):
        ilse2018_breast.build(data)
    with pytest.raises(InputError, match=r"study\.columns\.path: no column 'file'"):
        ilse2018_breast.build(data, columns={"path": "file"})
    columns = ColumnsConfig(path="image", patient_id="TMA")
    args = data, "label", ("benign", "malignant"), columns
    assert ilse2018_breast.read_images(*args).digest == usual.digest
    ilse2018_breast.build(data, columns={"path": "image", "patient_id": "TMA"})


def test_copies_and_folds_are_checked_before_work(data, capsys):
    rows = list(csv.reader((data / "cohort.csv").read_text().splitlines()))

    def read(extra=(), change=lambda rows: rows, **keys):
        with (data / "cohort.csv").open("w", newline="") as file:
            changed = change([list(row) for row in rows])
            csv.writer(file).writerows([*changed, *extra])
        return ilse2018_breast.build(data, **keys)

    Image.open(data / "im1.bmp").save(data / "again.png")
    read([["again.png", "array0", "malignant"]])
    assert "slides 'im1', 'again' have the same content: it counts" in (
        capsys.readouterr().out
    )
    with pytest.raises(InputError, match="same content and different patients"):
        read([["again.png", "array5", "malignant"]])
    with pytest.raises(InputError, match=r"no label in im2: give one"):
        read(change=lambda rows: [[*r[:2], r[2] * (r[0] != "im2.tif")] for r in rows])
    with pytest.raises(InputError, match=r"7 folds need .* 'benign' .* there are 6"):
        read(folds=7)

    def one_array(rows):
        kind = {"array0": "malignant"}
        return rows[:1] + [[*r[:2], kind.get(r[1], "benign")] for r in rows[1:]]

    with pytest.raises(InputError, match=r"2 folds need .* 'malignant' .* are 1:"):
        read(change=one_array)
