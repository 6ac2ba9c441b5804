import json

import numpy as np
import pytest
import torch

from mshisto_ray.backbone.hub_directory import read_preprocessing
from mshisto_ray.config import InputError
from mshisto_ray.encoders import transformers

pytestmark = pytest.mark.slow  # the library takes seconds to import
INPUT = {"image_mean": [0.5, 0.6, 0.7], "image_std": [0.2, 0.2, 0.2]}


def write(folder, kind="Dinov2", **config):
    library = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = getattr(library, f"{kind}Config")(
        **sizes, image_size=28, patch_size=14, **config
    )
    torch.manual_seed(0)
    network = getattr(library, f"{kind}Model")(settings).eval()
    network.save_pretrained(folder)
    size = {"size": {"height": 28, "width": 28}, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(INPUT | size))
    return network


def written(folder):
    write(folder / "network")
    return {"path": str(folder / "network")}


EXAMPLES = [pytest.param(written, marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters", "ViT"])
def test_features_are_the_librarys(kind, tiles, tmp_path):
    network = write(tmp_path, kind)
    mean, std = (
        torch.tensor(INPUT[k]).view(1, 3, 1, 1) * 255
        for k in ("image_mean", "image_std")
    )
    small = tiles[:, :28, :28]
    batch = (torch.from_numpy(small.copy()).permute(0, 3, 1, 2) - mean) / std
    with torch.inference_mode():
        tokens = network(pixel_values=batch).last_hidden_state
    extra = tokens.shape[1] - 4
    wanted = torch.cat([tokens[:, 0], tokens[:, extra:].mean(1)], 1)
    encoder = transformers.build(
        "cpu", "float32", path=str(tmp_path), take="class_token_and_patch_mean"
    )
    np.testing.assert_allclose(encoder(small), wanted, atol=1e-5)
    assert encoder(tiles).shape == (5, 48)  # resized, as the preprocessing says


def test_steps_that_a_directory_switches_off_are_not_taken(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    whole = INPUT | {"size": {"height": 64, "width": 64}, "crop_size": 28}
    path.write_text(json.dumps(whole | {"do_normalize": False}))
    found = read_preprocessing(tmp_path)
    assert (found["mean"], found["std"]) == ((0.0,) * 3, (1.0,) * 3)
    assert (found["size"], found["fit"]) == (64, "resize")  # and does not crop
    off = {"do_resize": False, "do_center_crop": True}
    path.write_text(json.dumps(whole | off))
    found = read_preprocessing(tmp_path)
    assert found["mean"] == tuple(INPUT["image_mean"])
    assert (found["size"], found["fit"]) == (28, "crop")
    path.write_text(json.dumps(whole | {"do_center_crop": True}))
    found = read_preprocessing(tmp_path)
    assert (found["fit"], found["resize_to"], found["size"]) == ("resize_crop", 64, 28)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    write(tmp_path, "Dinov2WithRegisters")
    config = json.loads((tmp_path / "config.json").read_text())
    other = config | {"model_type": "dinov2", "auto_map": {"AutoModel": "code.Network"}}
    own = config | {"model_type": "ours", "auto_map": {"AutoModel": "code.Network"}}
    for changed, said in ((other, "also has embeddings.register"), (own, "own code")):
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=said) as caught:
            transformers.build("cpu", "float32", path=str(tmp_path))
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="with mean, std, size: give them"):
        transformers.build("cpu", "float32", path=str(tmp_path))
    with pytest.raises(InputError, match=r"no config\.json in .*gone"):
        transformers.build(
            "cpu", "float32", path=str(tmp_path / "gone"), size=28,
            mean=(0.5,) * 3, std=(0.5,) * 3,
        )  # fmt: skip


def test_a_digest_is_of_weights_and_config(tmp_path):
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        encoder = transformers.build("cpu", "float32", path=str(tmp_path / name))
        digests.append(encoder.digest)
    assert digests[0] == digests[1]
    tokens = transformers.build(
        "cpu", "float32", path=str(tmp_path / "a"), take="pooled"
    )
    assert tokens.digest != digests[0]
