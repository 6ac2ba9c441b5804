"""The same command again, of a stage that is done."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed, tile

AGAIN = """
import sys
from mshisto_ray.entry import main
try:
    main(sys.argv[1], sys.argv[2:])
finally:
    print(sorted({"ray", "mlflow", "torch"} & set(sys.modules)))
"""


def again(job, words):
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, job, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def study(tmp_path_factory, plainly, write_labelled_slides):
    folder = tmp_path_factory.mktemp("study")
    cohort = write_labelled_slides(folder, 2, 560)
    words = {
        "tile": [f"cohort={cohort}", f"out={folder / 'tiles'}", "tile_px=64"],
        "embed": [f"tiles={folder / 'tiles'}", f"out={folder / 'embeddings'}",
                  "encoder={name: colour_stats}"],
    }  # fmt: skip
    kinds = {"tile": (tile, tile.TileConfig), "embed": (embed, embed.EmbedConfig)}
    with plainly():
        for job, (module, kind) in kinds.items():
            given = configs.parse_overrides(words[job])
            module.run(configs.load(kind, None, given))
    return folder, words


@pytest.mark.parametrize(("job", "imported"), [("tile", []), ("embed", ["torch"])])
def test_it_starts_neither_ray_nor_mlflow(study, job, imported):
    *said, modules = again(job, study[1][job])
    assert modules == str(imported)
    assert any(f"{job}: 2 of 2 " in line for line in said)


def test_a_deleted_database_is_written_again(study, plainly):
    folder, words = study
    database = folder / "mlflow.db"
    database.unlink()
    # Another process: MLflow keeps the deleted file open in this one.
    assert "mlflow" in again("tile", words["tile"])[-1]
    assert runs_of(database) == [("tile", "FINISHED")]
    given = configs.parse_overrides(words["tile"])
    with plainly():
        tile.run(configs.load(tile.TileConfig, None, given))
    assert runs_of(database) == [("tile", "FINISHED")]


def runs_of(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT name, status FROM runs").fetchall()
