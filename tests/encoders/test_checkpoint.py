import numpy as np
import pytest
import safetensors.torch
import timm as timm_library
import torch

from mshisto_ray.backbone import network as _network
from mshisto_ray.backbone.network import create_network
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError
from mshisto_ray.encoders import checkpoint


def save(path):
    network = timm_library.create_model("mobilenetv3_small_050", pretrained=False)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "as_is")
    backbone = {"model": "mobilenetv3_small_050", "options": {}}
    checkpoint.save(path, network, transform, backbone, 1024, [0.5, 1.0], 64)
    return network


def saved(folder):
    save(folder / "trained")
    return {"path": str(folder / "trained")}


EXAMPLES = [saved]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "trained"
    return path, save(path)


def test_checkpoint_round_trip_and_its_guard(directory, tiles):
    path, network = directory
    encode = checkpoint.build("cpu", "float32", path=str(path))
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.7, 0.6, 0.7), (0.1, 0.2, 0.1))
    )
    scaled = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        maps = network.eval().forward_features(scaled)
        expected = network.forward_head(maps, pre_logits=True)
    np.testing.assert_allclose(encode(tiles), expected.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"has no encoder\.json"):
        checkpoint.build("cpu", "float32", path=str(path.parent))


def test_weights_are_read_once_for_their_digest(directory, monkeypatch):
    calls, digest = [], checkpoint.network_digest

    def counting(*given):
        calls.append(given)
        return digest(*given)

    for module in (checkpoint, _network):
        monkeypatch.setattr(module, "network_digest", counting)
    checkpoint.build("cpu", "float32", path=str(directory[0]))
    assert len(calls) == 1


def test_checkpoint_refuses_other_weights(directory, tmp_path):
    path, _ = directory
    (tmp_path / "encoder.json").write_text((path / "encoder.json").read_text())
    other = timm_library.create_model("mobilenetv3_small_050").state_dict()
    safetensors.torch.save_file(other, tmp_path / "encoder.safetensors")
    with pytest.raises(InputError, match="not those its"):
        checkpoint.build("cpu", "float32", path=str(tmp_path))


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"format": 2}', "another version .format 2; this version reads 1.*again"),
        ("{}", "another version .format None"),
        ("weights", "is not JSON"),
    ],
)
def test_checkpoint_of_another_version_is_refused(text, message, directory, tmp_path):
    path, _ = directory
    weights = (path / "encoder.safetensors").read_bytes()
    (tmp_path / "encoder.safetensors").write_bytes(weights)
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(InputError, match=message):
        checkpoint.build("cpu", "float32", path=str(tmp_path))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("resnet10t", {"num_classes": 0}),
        ("vgg11", {"num_classes": 0, "pre_logits": False}),
    ],
)
def test_the_cards_code_loads_the_weights_into_plain_timm(
    model, options, tiles, tmp_path, monkeypatch
):
    network = create_network(model, options)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "as_is")
    backbone = {"model": model, "options": options}
    checkpoint.save(tmp_path, network, transform, backbone, 512, [0.5, 1.0], 64)
    card = (tmp_path / "README.md").read_text()
    assert "64 px at 0.5, 1 um/px" in card and "minus (0.7, 0.6, 0.7)" in card
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(card.split("```python\n")[1].split("```")[0], found)
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        wanted = network.eval().forward_features(x)
        plain = found["network"].eval().forward_features(x)
    torch.testing.assert_close(plain, wanted, rtol=0, atol=1e-4)
