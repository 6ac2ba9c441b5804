"""Features in, embeddings out, features again: both jobs."""

import json
import shutil

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray import progress
from mshisto_ray.config import InputError, TooManyFailuresError
from mshisto_ray.exchange.h5 import read_h5, write_h5
from mshisto_ray.exchange.h5_import import ImportRecipe
from mshisto_ray.exchange.import_unit import make_importer
from mshisto_ray.jobs import export_h5, import_h5
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cohort import CohortSlide, slide_to_json
from mshisto_ray.store.embeddings import EmbeddingDirectory, shard_path
from mshisto_ray.store.shards import read_metadata

ATTRIBUTES = {"patch_size": 100, "patch_size_level0": 100, "overlap": 0}


@pytest.fixture(scope="module")
def given(tmp_path_factory, write_slide):
    """Slides a to e; features of a, b (under its file's name), c (too wide), others."""
    folder = tmp_path_factory.mktemp("h5")
    (folder / "h5").mkdir()
    rng = np.random.default_rng(0)
    for seed, name in enumerate("abcde"):
        write_slide(folder / f"{name}.tiff", seed)
    place = np.stack(np.meshgrid(np.arange(11), np.arange(9)), -1).reshape(-1, 2) * 100
    held = {}
    for name, num, dim in (("a", 40, 8), ("b", 99, 8), ("c", 5, 9), ("stray", 5, 8)):
        values = rng.normal(size=(num, dim)).astype(np.float32)
        coords = place[rng.permutation(99)[:num]]
        with h5py.File(folder / "h5" / f"{name}.h5", "w") as file:
            file.create_dataset("features", data=values)
            file.create_dataset("coords", data=coords).attrs.update(ATTRIBUTES)
        held[name] = (coords, values)
    (folder / "h5" / "d.h5").write_bytes(b"cut short")
    rows = ["path,slide_id,label", "a.tiff,,x", "b.tiff,b-1,y"]
    rows += [f"{name}.tiff,,x" for name in "cde"]
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder, held


def import_config(folder, out, **changes):
    raw = {
        "features": str(folder / "h5"), "cohort": str(folder / "cohort.csv"),
        "out": str(out), "encoder": "theirs", "mpp": 0.5, "tile_px": 100,
        "runtime": {"max_failures": 0.6, "actors": 1},
    }  # fmt: skip
    return configs.validate(import_h5.ImportConfig, raw | changes)


@pytest.fixture(scope="module")
def imported(plainly, given, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "embeddings"
    with plainly():
        import_h5.run(import_config(given[0], out))
    return out


def assert_same_table(one, two):
    """Equal, with the tissue that no file says (NaN) equal to itself."""
    assert one.schema.equals(two.schema)
    for name in one.column_names:
        if name == "tissue":
            np.testing.assert_array_equal(one[name].to_numpy(), two[name].to_numpy())
        else:
            assert one[name].equals(two[name]), name


def test_workers_of_ray_write_the_same_files(local_ray, given, imported, tmp_path):
    again, first, second = tmp_path / "again", tmp_path / "one", tmp_path / "two"
    import_h5.run(import_config(given[0], again))
    names = sorted(path.relative_to(imported) for path in imported.rglob("*.parquet"))
    names = [name for name in names if name.parts[0] != "mlartifacts"]
    assert len(names) == 7
    for name in names:
        one, two = imported / name, again / name
        assert_same_table(pq.read_table(one), pq.read_table(two))
        assert read_metadata(one) == read_metadata(two), name
    raw = {"embeddings": str(again), "out": str(first)}
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    make = export_h5.make_exporter(again, second, json.loads(
        (first / "manifest.json").read_text())["recipe"])  # fmt: skip
    second.mkdir()
    for slide_id in ("a", "b-1"):
        make({"slide_id": slide_id})
        one, two = (read_h5(folder / f"{slide_id}.h5") for folder in (first, second))
        for key in ("x", "y", "values"):
            np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def test_slides_with_features_are_embedded_others_are_failures(imported):
    directory = EmbeddingDirectory(imported)
    assert directory.slide_ids == ["a", "b-1"]
    assert directory.incomplete == ["c", "d", "e"]
    assert (directory.dim, directory.scales) == (8, [0.5])
    failures = pq.read_table(imported / "failures.parquet").to_pylist()
    assert {(f["slide_id"], f["error"]) for f in failures} == {
        ("c", "OtherWidth"),
        ("d", "BadH5"),
        ("e", "NoFeatures"),
        ("stray", "UnknownSlide"),
    }
    assert {f["stage"] for f in failures} == {"import"}


@pytest.mark.parametrize("layout", ["trident", "clam"])
def test_there_and_back_is_exact(plain, imported, given, tmp_path, layout, capsys):
    raw = {"embeddings": str(imported), "out": str(tmp_path / "h5"), "layout": layout}
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    assert sorted(p.name for p in tmp_path.glob("h5/*.h5")) == ["a.h5", "b-1.h5"]
    capsys.readouterr()
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    assert "export: 2 of 2 slides already done" in capsys.readouterr().out
    # As if another slide had been embedded anew since.
    write_h5(tmp_path / "h5" / "a.h5", "a", read_h5(tmp_path / "h5" / "b-1.h5"), 0.5,
             layout, "something else")  # fmt: skip
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    assert "export: 1 of 2 slides already done" in capsys.readouterr().out
    for slide_id, name in (("a", "a"), ("b-1", "b")):
        coords, values = given[1][name]
        with h5py.File(tmp_path / "h5" / f"{slide_id}.h5") as file:
            found = np.asarray(file["coords"]), np.asarray(file["features"])
        order = np.lexsort(coords.T)
        np.testing.assert_array_equal(found[0], coords[order])
        np.testing.assert_array_equal(found[1], values[order])
    again = tmp_path / "again"
    changes = {"features": str(tmp_path / "h5"), "runtime": {"max_failures": 1.0}}
    import_h5.run(import_config(given[0], again, **changes))
    for slide_id in ("a", "b-1"):
        one = EmbeddingDirectory(imported).read(slide_id, 0.5)
        two = EmbeddingDirectory(again).read(slide_id, 0.5)
        for key in ("row", "col", "x", "y", "extent", "own", "values"):
            np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def test_a_second_run_does_only_what_changed(plain, imported, given, tmp_path, capsys):
    folder, out = given[0], tmp_path / "out"
    shutil.copytree(imported, out)
    import_h5.run(import_config(folder, out))
    assert "import: 5 of 5 slides already done" in capsys.readouterr().out
    again = {"runtime": {"retry_failures": True, "max_failures": 0.6}}
    import_h5.run(import_config(folder, imported, **again))
    assert "import: 2 of 5 slides already done" in capsys.readouterr().out
    source = (folder / "h5" / "a.h5").read_bytes()
    (folder / "h5" / "e.h5").write_bytes(source)
    try:
        import_h5.run(import_config(folder, out))
    finally:
        (folder / "h5" / "e.h5").unlink()
    assert "import: 4 of 5 slides already done" in capsys.readouterr().out
    assert EmbeddingDirectory(out).slide_ids == ["a", "b-1", "e"]


def test_without_slides_the_features_alone_are_enough(given, plain, tmp_path):
    folder = given[0]
    table = tmp_path / "cohort.csv"
    table.write_text("path\ngone/a.svs\n")
    config = import_config(folder, tmp_path / "out", cohort=str(table))
    with pytest.raises(InputError, match="no such slide file"):
        import_h5.check(config)
    config = config.model_copy(update={"check_slides": False})
    import_h5.run(config)
    assert EmbeddingDirectory(tmp_path / "out").num_rows("a", 0.5) == 40


def test_nothing_to_import_is_one_line(given, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text(f"path,slide_id\n{given[0]}/a.tiff,other\n")
    (tmp_path / "empty").mkdir()
    changes = {"cohort": str(table), "features": str(tmp_path / "empty")}
    with pytest.raises(InputError, match=r"none of the 0 \.h5 files in .* name them"):
        import_h5.check(import_config(given[0], tmp_path / "out", **changes))
    changes = {"features": str(tmp_path / "gone")}
    with pytest.raises(InputError, match="features: no such folder"):
        import_h5.check(import_config(given[0], tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_reasons_are_kept_where_too_many_fail(plain, given, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_CHECK_AFTER_SLIDES", 1)
    changes = {"mpp": 0.25, "runtime": {"max_failures": 0.1}}
    config = import_config(given[0], tmp_path / "out", **changes)
    with pytest.raises(TooManyFailuresError):
        import_h5.run(config)
    kept = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert kept and not (tmp_path / "out" / "slides.parquet").exists()


def test_a_slide_that_ended_its_process_twice_is_left_out(given, tmp_path):
    folder, _ = given
    recipe = ImportRecipe(0.5, 100, None, 8, "float32", 0.1, True)
    row = CohortSlide("a", "a", folder / "a.tiff", None, None, {})
    features = str(folder / "h5" / "a.h5")
    unit = {"slide_id": "a", "row": slide_to_json(row), "key": {}, "features": features,
            "coordinates": None}  # fmt: skip
    work = make_importer(tmp_path, recipe)
    assert work(unit) == {"slide_id": "a", "tiles": 40, "failures": 0, "reasons": []}
    attempts = Attempts(tmp_path, "a")
    for _ in range(2):
        attempts.begin()
    assert work(unit)["failures"] == 1
    (failure,) = read_metadata(shard_path(tmp_path, "a", 0))["failures"]
    assert (
        failure["kind"] == "crash" and "ended the process 2 times" in failure["message"]
    )
