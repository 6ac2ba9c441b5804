from typing import Annotated

import pytest

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError
from mshisto_ray.help import help_text

FAMILY = "mshisto_ray.tiling.tissue_masks"


class Example(Config):
    tissue: Annotated[Part, Family(FAMILY)] = Part(name="otsu")


def test_parts_are_the_files_without_an_underscore():
    found = components.available(FAMILY)
    assert "otsu" in found and found == sorted(found)
    assert not [name for name in found if name.startswith("_")]


def test_defaults_are_filled_in_and_values_typed():
    config = configs.validate(Example, {"tissue": {"name": "otsu", "smooth_um": "5"}})
    assert config.tissue.parameters["smooth_um"] == 5.0
    assert config.tissue.parameters["min_object_mm2"] == 0.02
    assert Example().tissue.parameters["smooth_um"] == 12.0


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"name": "hest"}, "no 'hest' in tissue_masks; have annotation, .*otsu"),
        ({"name": "_mask"}, "no '_mask' in tissue_masks"),
        ({"name": "otsu", "smoth": 1}, r"'otsu' takes smooth_um, .*; got 'smoth'"),
        ({"name": "otsu", "smooth_um": -1}, r"otsu\.smooth_um: .*greater than"),
        ({}, r"tissue\.name: required"),
    ],
)
def test_unusable_parts_are_refused_by_name(part, said):
    with pytest.raises(InputError, match=said):
        configs.validate(Example, {"tissue": part})


def test_help_lists_every_part_with_its_parameters():
    text = help_text(Example, "Do.")
    assert "{name: otsu, smooth_um: 12, min_object_mm2: 0.02" in text


def test_a_part_that_passes_options_on_takes_them():
    part = Part(name="timm", model="resnet18", weights="random", num_classes=7)
    checked = components.check("mshisto_ray.encoders", part)
    assert checked.parameters["num_classes"] == 7
    assert checked.parameters["seed"] == 0


def test_build_hands_over_runtime_arguments_and_parameters():
    part = components.check("mshisto_ray.encoders", Part(name="colour_stats"))
    encoder = components.build("mshisto_ray.encoders", part, "cpu", "float32")
    assert encoder.dim == 21


def test_a_name_alone_is_the_part_with_its_defaults():
    assert Part.model_validate("best") == Part(name="best")
    words = configs.parse_overrides(["tissue=otsu"])
    alone, whole = (
        configs.validate(Example, {"tissue": tissue})
        for tissue in (words["tissue"], {"name": "otsu"})
    )
    assert alone == whole


def test_defaults_of_parts_are_shown_as_they_are_typed():
    lines = Family("mshisto_ray.tile_classification.probes").describe()
    (dense,) = [line for line in lines if line.startswith("{name: dense")]
    assert "hidden: []" in dense and "reduction: {name: none}" in dense
