"""Files of features as no lab should have them, through the import job: one run."""

import os

import h5py
import numpy as np
import pyarrow.parquet as pq
from fixtures.h5 import grid, write_h5

from mshisto_ray import config as configs
from mshisto_ray.jobs import import_h5
from mshisto_ray.store.embeddings import EmbeddingDirectory

NUM, DIM = 24, 6
FEATURES = np.random.default_rng(0).normal(size=(NUM, DIM)).astype(np.float32)
COORDS = grid(NUM, 12)


def write(path, features=FEATURES, coords=COORDS, **attributes):
    return write_h5(path, features, coords, **attributes)


def replaced(path, make):
    """A file whose features ``make(file)`` puts there anew."""
    with h5py.File(write(path), "a") as file:
        del file["features"]
        make(file)


def odd_files(folder, secret, other):
    """Writes the files; the failure that each has to give, by its name."""
    values = FEATURES.copy()
    values[5] = np.nan
    shape = (NUM, DIM)
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(other, "features", shape)
    given = {
        "all_zero": {"features": 0 * FEATURES},
        "no_number": {"features": values},
        "half_scale": {"coords": COORDS // 2},
        "double_scale": {"coords": COORDS * 2},
        "micrometres": {"coords": COORDS * 0.253},
        "negative": {"coords": COORDS - 512},
        "far_away": {"coords": COORDS.astype(np.uint64) + 2**63},
        "one_coordinate_less": {"coords": COORDS[:-1]},
        "three_coordinates": {"coords": np.hstack([COORDS, COORDS[:, :1]])},
        "patch_size_0": {"patch_size": 0},
        "patch_size_none": {"patch_size_level0": float("nan")},
        "patch_size_infinite": {"patch_size_level0": float("inf")},
        "patch_size_text": {"patch_size": "large"},
        "overlap_whole": {"overlap": 256},
        "double": {"features": FEATURES.astype(np.float64)},
        "whole_numbers": {"features": (100 * FEATURES).astype(np.int8)},
        "texts": {"features": np.full((NUM, DIM), b"1.0")},
        "other_width": {"features": np.hstack([FEATURES, FEATURES])},
        "no_tiles": {"features": FEATURES[:0], "coords": COORDS[:0]},
        "a_slide_vector": {"features": FEATURES[0]},
    }
    for name, keys in given.items():
        write(folder / f"{name}.h5", **keys)
    made = {
        "terabytes": lambda f: f.create_dataset(
            "features", (10**9, 1000), "f4", chunks=(1, 1000)
        ).write_direct(np.ones((1, 1000), "f4"), dest_sel=np.s_[:1]),
        "gigabytes_of_nothing": lambda f: f.create_dataset(
            "features", (10**6, 1000), "f4", chunks=(1, 1000)
        ).write_direct(np.ones((1, 1000), "f4"), dest_sel=np.s_[:1]),
        "link": lambda f: f.__setitem__(
            "features", h5py.ExternalLink(str(other), "/features")
        ),
        "dangling": lambda f: f.__setitem__("features", h5py.SoftLink("/gone")),
        "raw_storage": lambda f: f.create_dataset(
            "features", shape, "f4", external=[(str(secret), 0, FEATURES.nbytes)]
        ),
        "virtual": lambda f: f.create_virtual_dataset("features", layout),
        "group": lambda f: f.create_group("features"),
        "scalar": lambda f: f.create_dataset("features", data=np.float32(1)),
        "empty": lambda f: f.create_dataset("features", dtype="f4", shape=None),
    }
    for name, make in made.items():
        replaced(folder / f"{name}.h5", make)
    (folder / "no_bytes.h5").touch()
    (folder / "text.h5").write_text("x,y\n")
    (folder / "cut.h5").write_bytes(other.read_bytes()[:1200])
    os.mkfifo(folder / "pipe.h5")
    (folder / "folder.h5").mkdir()
    return {
        **dict.fromkeys([*given, *made, "no_bytes", "text", "cut"]), "pipe": "NotAFile",
        "half_scale": "OtherScale", "double_scale": "OtherScale",
        "all_zero": "AllZero", "no_number": "NotFinite", "terabytes": "TooLarge",
        "gigabytes_of_nothing": "TooLarge", "other_width": "OtherWidth",
        "link": "OutsideData", "raw_storage": "OutsideData", "virtual": "OutsideData",
        "no_tiles": "NoTiles", "micrometres": "BadPlaces", "negative": "BadPlaces",
        "far_away": "BadPlaces",
    }  # fmt: skip


def test_each_odd_file_is_a_failure_with_its_reason_and_the_good_one_is_imported(
    plain, tmp_path
):
    folder = tmp_path / "features"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(FEATURES.tobytes())
    wanted = odd_files(folder, secret, write(tmp_path / "other.h5"))
    write(folder / "good.h5")
    part = FEATURES.copy()
    part[[3, 12]] = 0
    write(folder / "some_zero.h5", part)
    names = ["good", "some_zero", "folder", *wanted]
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("\n".join(["path", *(f"{name}.svs" for name in names)]) + "\n")
    out = tmp_path / "out"
    raw = {
        "features": str(folder), "cohort": str(cohort), "out": str(out), "mpp": 0.5,
        "encoder": "theirs", "check_slides": False, "runtime": {"max_failures": 0.99},
    }  # fmt: skip
    config = configs.validate(import_h5.ImportConfig, raw)
    import_h5.check(config)
    import_h5.run(config)
    found = pq.read_table(out / "failures.parquet").to_pylist()
    assert {f["kind"] for f in found} == {"input"}
    failed = {}
    for failure in found:
        assert "\n" not in failure["message"] and len(failure["message"]) > 20
        failed.setdefault(failure["slide_id"], set()).add(failure["error"])
    assert failed.pop("some_zero") == {"AllZero"}
    assert len(failed.pop("folder")) == 1
    assert failed.keys() == wanted.keys()
    for name, error in wanted.items():
        assert failed[name] == {error or "BadH5"}, name
    directory = EmbeddingDirectory(out)
    good = directory.read("good", 0.5)
    order = np.lexsort(COORDS.T)
    np.testing.assert_array_equal(good.values, FEATURES[order])
    left = directory.read("some_zero", 0.5)
    assert len(left.row) == NUM - 2 and (left.values != 0).any(1).all()
    assert directory.slide_ids == ["good", "no_number", "some_zero"]
