"""Real processes killed in the middle; the same command again gives the same rows."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from fixtures.killing import end_driver

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed, tile

JOBS = Path(__file__).parents[2] / "jobs"

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# Read by every Python process at its start: reading the tile at (128, 192) of a.tiff
# ends the process.
POISON = """
import os, signal
from mshisto_ray.slides._native import NativeSlide
read = NativeSlide.read
def poisoned(self, level, x, y, width, height):
    name = self._reference._path.name
    if (name, x, y, width, height) == ("a.tiff", 384, 320, 64, 64):
        os.kill(os.getpid(), signal.SIGSEGV)
    return read(self, level, x, y, width, height)
NativeSlide.read = poisoned
"""


def command(job, *words):
    return [sys.executable, str(JOBS / f"{job}.py"), *words]


def run(job, *words, env=None):
    done = subprocess.run(
        command(job, *words),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tiles(tmp_path_factory, plainly, write_slide):
    folder = tmp_path_factory.mktemp("kills")
    for seed, name in enumerate(("a", "b")):
        write_slide(folder / f"{name}.tiff", seed)
    write_slide(folder / "coarse.tiff", 3, mpp=1.0)
    (folder / "broken.svs").write_bytes(b"no slide")
    names = ["a.tiff", "b.tiff", "coarse.tiff", "broken.svs"]
    (folder / "cohort.csv").write_text("path\n" + "\n".join(names) + "\n")
    out = folder / "tiles"
    raw = {"cohort": str(folder / "cohort.csv"), "out": str(out)}
    raw |= {"tile_px": 64, "chunk_tiles": 8}
    with plainly():
        tile.run(configs.validate(tile.TileConfig, raw))
    return out


def words(tiles, out):
    encoder = "{name: timm, model: resnet50, weights: random}"
    return (f"tiles={tiles}", f"out={out}", f"encoder={encoder}", "batch_size=4",
            "precision=float32", "runtime.actors=2",
            # Of the tiling: a new database takes each driver seconds.
            f"runtime.mlflow.uri=sqlite:///{tiles.parent / 'mlflow.db'}")  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tiles, plainly):
    """Made in this process, without Ray and its workers."""
    out = tiles.parent / "uninterrupted"
    overrides = configs.parse_overrides(words(tiles, out))
    with plainly():
        embed.run(configs.load(embed.EmbedConfig, None, overrides))
    return out


def shards(out):
    return {p.relative_to(out): p for p in (out / "shards").rglob("*.parquet")}


def assert_same(first, second):
    one, two = shards(first), shards(second)
    assert one.keys() == two.keys() and len(one) > 10
    for name in one:
        assert pq.read_table(one[name]).equals(pq.read_table(two[name])), name
    for table in ("failures.parquet", "slides.parquet"):
        assert pq.read_table(first / table).equals(pq.read_table(second / table))


def start_and_wait_for(tiles, out, num_shards):
    process = subprocess.Popen(
        command("embed", *words(tiles, out)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while len(shards(out)) < num_shards:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


def workers_of(driver):
    return [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "ray::MapBatches" in " ".join(child.cmdline())
    ]


def test_driver_killed_and_run_again(tiles, uninterrupted, tmp_path):
    out = tmp_path / "out"
    driver = start_and_wait_for(tiles, out, 3)
    end_driver(driver)
    before = {name: p.stat().st_mtime_ns for name, p in shards(out).items()}
    assert 3 <= len(before) < len(shards(uninterrupted))
    said = run("embed", *words(tiles, out))
    assert f"embed: {len(before)} of " in said
    for name, time_ns in before.items():
        assert (out / name).stat().st_mtime_ns == time_ns, "done again"
    assert_same(out, uninterrupted)


def test_a_job_resumes_after_a_killed_worker(tiles, uninterrupted, tmp_path):
    out = tmp_path / "out"
    driver = start_and_wait_for(tiles, out, 3)
    while len(workers := workers_of(driver)) < 2:  # one is between two units
        assert driver.poll() is None
    workers[0].kill()
    assert driver.wait(timeout=240) == 0
    assert_same(out, uninterrupted)
    assert not list((out / "attempts").iterdir())


@pytest.mark.parametrize("by", ["worker", "actors"])
def test_a_tile_that_kills_its_process_is_named_and_the_rest_kept(
    tiles, uninterrupted, tmp_path, by
):
    """The worker itself, or one that reads for it."""
    folder = tmp_path / "poison"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON)
    out = tmp_path / "out"
    reading = f"runtime.reading={{by: {by}, num: 1}}"
    env = {"PYTHONPATH": str(folder)}
    run("embed", *words(tiles, out), "runtime.actors=1", reading, env=env)
    rows = pq.read_table(out / "failures.parquet").to_pylist()
    crashes = [row for row in rows if row["kind"] == "crash"]
    assert [(c["slide_id"], c["mpp"], c["row"], c["col"]) for c in crashes] == [
        ("a", 0.5, 5, 6)
    ]
    assert "ended the process (exit code -11)" in crashes[0]["message"]
    for name, path in shards(uninterrupted).items():
        whole, kept = pq.read_table(path), pq.read_table(out / name)
        if whole.num_rows == kept.num_rows:
            assert whole.equals(kept)
        else:
            assert kept.num_rows == whole.num_rows - 1 and name.parts[1] == "a"
