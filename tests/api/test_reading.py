"""Slides and embeddings from Python: what the files hold."""

import subprocess
import sys

import numpy as np
import openslide
import pyarrow.parquet as pq
import pytest

import mshisto_ray
from mshisto_ray import InputError, SlideError, open_slide, read_embeddings
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_slide


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, mshisto_ray\n"
        "assert not {'torch', 'ray', 'numpy', 'mlflow'} & set(sys.modules)\n"
        "mshisto_ray.open_slide\n"
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)\n"
        "assert set(mshisto_ray.__all__) <= set(dir(mshisto_ray))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_every_name_is_there_and_no_other():
    for name in mshisto_ray.__all__:
        assert getattr(mshisto_ray, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = mshisto_ray.fitt


def test_a_slide_has_the_pixels_of_openslide(tmp_path):
    settings = PhantomConfig(num_patients=2, size=2048, seed=3)
    row = write_slide(settings, 0, tmp_path)
    path = tmp_path / row["path"]
    slide = open_slide(str(path))
    assert (slide.mpp, slide.levels[0].width) == (pytest.approx(0.5), 2048)
    with openslide.OpenSlide(path) as other:
        expected = np.asarray(other.read_region((400, 300), 1, (90, 70)))[..., :3]
    found = slide.read(1, 400, 300, 90, 70)
    slide.close()
    np.testing.assert_array_equal(found, expected)


def test_a_file_that_is_no_slide_is_refused(tmp_path):
    with pytest.raises(SlideError, match="no such file"):
        open_slide(tmp_path / "gone.svs")
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(SlideError):
        open_slide(tmp_path / "text.svs")


def test_embeddings_are_the_rows_of_the_shards(make_embeddings):
    rng = np.random.default_rng(0)
    sizes = {0.5: 9, 1.0: 5}
    values = {m: rng.normal(size=(n, 3)).astype(np.float16) for m, n in sizes.items()}
    folder = make_embeddings({"s/1": values})
    shards = (folder / "shards" / "s%2F1").glob("*.parquet")
    rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    for mpp, own_only in [(None, True), (1.0, True), (1.0, False)]:
        found = read_embeddings(str(folder), "s/1", mpp, own_only=own_only)
        wanted = [r for r in rows if r["mpp"] == (mpp or 0.5)]
        wanted = [r for r in wanted if r["own"] or not own_only]
        wanted.sort(key=lambda r: (r["row"], r["col"]))
        assert found.values.dtype == np.float16
        assert found.values.tolist() == [list(r["rgb"]) for r in wanted]
        for name in ("row", "col", "x", "y", "extent", "tissue", "own"):
            assert getattr(found, name).tolist() == [r[name] for r in wanted]
    with pytest.raises(InputError, match="no scale 3"):
        read_embeddings(folder, "s/1", 3.0)
    with pytest.raises(InputError, match="no complete slide 's2'"):
        read_embeddings(folder, "s2")
