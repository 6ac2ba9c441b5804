"""A network that was never trained is named wherever its embeddings are used."""

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, tile
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig


@pytest.fixture(scope="module")
def slides(plainly, tmp_path_factory, write_labelled_slides):
    folder = tmp_path_factory.mktemp("random")
    raw = {
        "cohort": str(write_labelled_slides(folder, 4, 560)),
        "out": str(folder / "tiles"),
    }
    with plainly():
        tile.run(configs.validate(tile.TileConfig, raw | {"tile_px": 64}))
    return folder


def notes(slides, out):
    raw = {"embeddings": str(out), "cohort": str(slides / "cohort.csv")}
    split = {"split": {"folds": 2, "validation": 0}, "early_stopping": None}
    given = configs.validate(ExperimentConfig, raw | split)
    return experiment.notes(given, experiment.check(given)[0])


@pytest.mark.parametrize(
    ("encoder", "warned"),
    [
        ({"name": "timm", "model": "test_resnet", "weights": "random"}, True),
        ({"name": "colour_stats"}, False),
    ],
)
def test_random_weights_are_warned_of(plain, slides, tmp_path, capsys, encoder, warned):
    raw = {"tiles": str(slides / "tiles"), "out": str(tmp_path), "encoder": encoder}
    embed.run(configs.validate(embed.EmbedConfig, raw))
    said = capsys.readouterr().out
    assert ("embed: warning: test_resnet has random weights" in said) == warned
    lines = [line for line in notes(slides, tmp_path) if "random weights" in line]
    assert len(lines) == warned


def test_an_encoder_has_to_be_named(slides, tmp_path):
    raw = {"tiles": str(slides / "tiles"), "out": str(tmp_path)}
    with pytest.raises(InputError, match="give either encoder or encoders"):
        configs.validate(embed.EmbedConfig, raw)
    part = {"name": "timm", "model": "resnet18"}
    with pytest.raises(InputError, match="weights"):
        configs.validate(embed.EmbedConfig, {**raw, "encoder": part})
