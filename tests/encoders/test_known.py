import pytest
import torch

from mshisto_ray.backbone.network import create_network
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError
from mshisto_ray.encoders._known import check_input

HALF = InputTransform((0.5,) * 3, (0.5,) * 3, 224, "as_is")
IMAGENET = InputTransform((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, "as_is")
LARGE = ("vit_large_patch16_224", {"init_values": 1e-5, "num_classes": 0})


def checked(model, options, transform):
    with torch.device("meta"):
        return check_input(create_network(model, options), model, transform)


def test_weights_that_only_recipes_of_another_mean_have_are_refused():
    said = r"shapes of digepath, mstar, phikon_v2, uni, .*\[0.5, 0.5"
    with pytest.raises(InputError, match=said):
        checked(*LARGE, HALF)
    assert checked(*LARGE, IMAGENET) == ()


def test_weights_that_recipes_of_several_means_have_are_warned_of():
    (warning,) = checked("vit_small_patch16_224", {"num_classes": 0}, HALF)
    assert "shapes of lunit_s16, whose input" in warning


def test_weights_of_no_recipe_are_as_they_were():
    assert checked("resnet18", {}, IMAGENET) == ()
