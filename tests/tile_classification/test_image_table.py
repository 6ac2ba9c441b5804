"""Tables and images as users have them: odd dialects, endings, depths and damage."""

import numpy as np
import pytest
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.tile_classification.image_table import ImagesConfig, read_images

GLAS = "name, patient ID, grade (GlaS)\n"
KEYS = {"file": "name", "group": "patient ID", "label": "grade (GlaS)"}


def read(folder, **keys):
    return read_images(
        configs.validate(ImagesConfig, {"table": folder / "t.csv", **keys})
    )


def drawn(folder, name, size=(40, 30), mode="RGB"):
    rng = np.random.default_rng(len(name))
    shape = (size[1], size[0], len(mode))
    pixels = rng.integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels, mode).save(folder / name)
    return pixels


def test_the_layout_of_glas_blanks_after_commas_and_names_without_endings(tmp_path):
    pixels = drawn(tmp_path, "testA_1.bmp")
    drawn(tmp_path, "testA_1_anno.bmp")
    drawn(tmp_path, "train 1.bmp", (36, 34))
    rows = "testA_1, 5, benign\ntrain 1, 6, malignant\n"
    (tmp_path / "t.csv").write_text(GLAS + rows)
    images = read(tmp_path, **KEYS)
    assert images.labels == ("benign", "malignant") and images.groups == ("5", "6")
    assert [path.name for path in images.paths] == ["testA_1.bmp", "train 1.bmp"]
    assert images.side == 30
    assert np.array_equal(images.read(0), pixels[:, 5:35])
    assert images.read(1).shape == (30, 30, 3)


def test_what_is_transparent_is_white(tmp_path):
    pixels = drawn(tmp_path, "a.png", mode="RGBA")
    pixels[..., 3] = np.where(np.arange(40) < 20, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,label,patient_id\na.png,x,1\n")
    found = read(tmp_path).read(0)
    assert (found[:, :15] == 255).all()
    assert np.array_equal(found[:, 15:], pixels[:, 20:35, :3])


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path):
    for name in ("good.png", "cut.png"):
        drawn(tmp_path, name, (200, 200))
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.bmp").write_bytes(b"BM" + bytes(100))
    Image.fromarray(np.zeros((50, 50), np.uint16)).save(tmp_path / "deep.png")
    names = ("good.png", "cut.png", "damaged.bmp", "deep.png")
    rows = "".join(f"{name},{name[0]},{i}\n" for i, name in enumerate(names))
    (tmp_path / "t.csv").write_text("file,label,patient_id\n" + rows + "x.png,,9\n")
    looked = read(tmp_path)
    assert [path.name for path in looked.paths] == ["good.png", "cut.png"]
    images = looked.readable()
    assert images.labels == ("g",) and images.groups == ("0",)
    assert "1 of 5 rows of t.csv have no 'label'" in images.notes[0]
    assert (
        "2 of 4 images cannot be read and are left out: damaged.bmp" in images.notes[1]
    )
    assert "8 bits a channel" in images.notes[1]
    assert "1 of 2 images cannot be read and are left out: cut.png" in images.notes[2]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "a.png,x,1\nb.png,y,2\nc.png,y,3\n",
            "2 of 3 files do not exist: .*b.png, .*c",
        ),
        ("a.png,x,1\na.png,y,2\n", "1 files are in more than one row"),
        ("a.png,x,\n", "column 'patient_id' is empty in 1 of 1"),
        ("twice,x,1\n", "may be twice.bmp, twice.png: give the ending"),
        ("bad.png,x,1\n", "none can be read; .*bad.png"),
        ("a.png,,1\n", "no labelled row"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, rows, words):
    for name in ("a.png", "twice.png", "twice.bmp"):
        drawn(tmp_path, name)
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "t.csv").write_text("file,label,patient_id\n" + rows)
    with pytest.raises(InputError, match=words):
        read(tmp_path)
