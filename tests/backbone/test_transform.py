import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mshisto_ray.backbone.network import network_digest
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError

PLAIN = ((0.0,) * 3, (1 / 255,) * 3)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((256, 256), Image.Resampling.BOX))


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_resizing_is_that_of_the_image_library_but_for_ties_in_rounding(image, name):
    transform = InputTransform(*PLAIN, 224, "resize", name)
    found = transform.apply(torch.from_numpy(image)[None])[0].permute(1, 2, 0)
    kind = getattr(Image.Resampling, name.upper())
    wanted = np.asarray(Image.fromarray(image).resize((224, 224), kind), np.float32)
    apart = np.abs(found.numpy() - wanted)
    assert apart.max() <= 2 and apart.mean() < 0.1


def test_resize_then_crop_takes_the_centre(image):
    transform = InputTransform(*PLAIN, 224, "resize_crop", "bicubic", resize_to=256)
    found = transform.apply(torch.from_numpy(image)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), image[16:240, 16:240], atol=1e-3)
    with pytest.raises(InputError, match="cannot crop 256 px tiles to 512 px"):
        InputTransform(*PLAIN, 512, "crop").apply(torch.from_numpy(image)[None])


def test_digests_of_transforms_without_later_keys_are_what_they_were():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(0.5)
        network.bias.fill_(0.25)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "resize")
    found = network_digest(network, transform, {"model": "m", "options": {}})
    assert found == "26d0b01582af37699dde8d2956548bda"
