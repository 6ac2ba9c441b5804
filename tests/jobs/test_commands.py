"""The command of a recorded config gives the same config again."""

import shlex
from pathlib import Path

import pytest

from mshisto_ray import config as configs
from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs.embed import EmbedConfig
from mshisto_ray.jobs.run import RunConfig
from mshisto_ray.jobs.tile import TileConfig

GIVEN = [
    ("tile", TileConfig, {"cohort": "a b.csv", "out": "t", "tissue": "stain"}),
    ("embed", EmbedConfig, {"tiles": "t", "out": "e", "encoder": "colour_stats"}),
    (
        "sweep",
        SweepConfig,
        {
            "embeddings": ["e1", "../e2"],
            "cohort": "c.csv",
            "out": "s",
            "scales": [2.0, 1.0],
            "combine": "concat",
            "axes": {"pooling": [{"name": "clam"}, "dsmil"], "noise.sigma": [0, 1]},
            "target": {"column": "it's; null", "classes": ["no", "1"]},
            "optimiser": {"lr": 1e-3},
            "early_stopping": None,
        },
    ),
    (
        "run",
        RunConfig,
        {
            "cohort": "c.csv",
            "encoder": {"name": "colour_stats", "quantiles": [0.5]},
            "axes": {"noise.sigma": [0, 0.1]},
            "sweep": {"epochs": 3},
        },
    ),
]


@pytest.mark.parametrize(("job", "kind", "raw"), GIVEN, ids=[g[0] for g in GIVEN])
def test_a_command_gives_its_config(job, kind, raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = configs.validate(kind, raw)
    line = command_of(job, kind, given.model_dump(mode="json"), Path.cwd())
    program, name, *words = shlex.split(line)
    assert (program, name) == ("mshisto", job)
    assert str(tmp_path) not in line
    again = configs.load(kind, None, configs.parse_overrides(words))
    assert again == given


def test_what_is_not_given_is_not_written(tmp_path):
    given = configs.validate(
        TileConfig, {"cohort": str(tmp_path / "c.csv"), "out": str(tmp_path / "t")}
    )
    line = command_of("tile", TileConfig, given.model_dump(mode="json"), tmp_path)
    assert line == "mshisto tile cohort=c.csv out=t"
