"""Every pretraining YAML is a config that passes its own check."""

from pathlib import Path

import pytest

from mshisto_ray.config import InputError, load, validate
from mshisto_ray.contrastive.config import PretrainConfig
from mshisto_ray.jobs.pretrain import PretrainJobConfig, check

JOBS = Path(__file__).parents[2] / "jobs"
YAMLS = sorted(JOBS.glob("pretrain*.yaml"))


def loaded(path, phantom, tmp_path, **changes) -> PretrainJobConfig:
    (header, *_) = (phantom / "cohort.csv").read_text().splitlines()
    given = {"tiles": phantom / "tiles", "out": tmp_path / "out", **changes}
    if "tan2023" in path.stem:
        given |= {"cohort": phantom / "cohort.csv", "label": header.split(",")[-1]}
    return load(PretrainJobConfig, path, given)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_passes_its_check(path, phantom, tmp_path):
    # The drawn slides are a millimetre wide.
    small = {} if "wu2018" in path.stem else {"pairs.far_um": 400}
    if "gildenblat2019" in path.stem:
        small["pairs.near_um"] = 100
    config = loaded(path, phantom, tmp_path, **({} if "tan" in path.stem else small))
    check(config)
    assert (
        config.preset is None
        or path.stem == f"pretrain_{config.preset}"
        or (path.stem == f"pretrain_{config.preset}_small")
    )
    assert not (tmp_path / "out").exists()


def test_there_is_a_yaml_for_the_default_every_paper_and_their_small_versions():
    names = {path.stem.removeprefix("pretrain") for path in YAMLS}
    papers = {"_gildenblat2019", "_tan2023", "_wu2018"}
    assert names == {""} | papers | {f"{paper}_small" for paper in papers}


def test_the_yaml_of_the_default_has_its_pairs(phantom, tmp_path):
    plain = validate(PretrainConfig, {"tiles": phantom, "out": tmp_path})
    config = loaded(JOBS / "pretrain.yaml", phantom, tmp_path)
    assert config.pairs == plain.pairs and config.loss == plain.loss
    assert config.augment == plain.augment and config.blocks == plain.blocks
    assert config.pairs.parameters["near_um"] is None


def test_keys_of_a_yaml_leave_the_rest_of_its_preset(phantom, tmp_path):
    config = loaded(JOBS / "pretrain_gildenblat2019_small.yaml", phantom, tmp_path)
    assert config.model.backbone == "resnet10t"
    assert config.model.projection.hidden == ()
    assert config.loss.name == "margin" and config.loss.parameters["squared"]
    assert config.pairs.name == "spatial" and config.pairs.parameters["far_um"] == 1500
    assert config.optimiser.schedule == "constant"


def test_slides_too_small_for_a_papers_distances_are_refused(phantom, tmp_path):
    config = loaded(JOBS / "pretrain_gildenblat2019.yaml", phantom, tmp_path)
    with pytest.raises(InputError, match="no other tile 9145 um away"):
        check(config)
