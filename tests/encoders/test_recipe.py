"""Recipes: those of the package, and a user's own."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from mshisto_ray import components
from mshisto_ray.backbone.network import create_network
from mshisto_ray.backbone.taking import taking
from mshisto_ray.backbone.weights import load_state
from mshisto_ray.components import Family, Part
from mshisto_ray.config import InputError
from mshisto_ray.encoders import _build, recipe, timm
from mshisto_ray.encoders._recipe import RECIPES, names, read_recipe

FAMILY = "mshisto_ray.encoders"
TINY = {
    "img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 2,
    "num_classes": 0, "reg_tokens": 2, "mlp_layer": "SwiGLUPacked", "act_layer": "silu",
}  # fmt: skip
OWN = {
    "title": "Ours",
    "network": {"model": "vit_tiny_patch16_224", "options": TINY},
    "input": {"size": 32, "mean": [0.7, 0.5, 0.6], "std": [0.2, 0.2, 0.2]},
    "take": "class_token_and_patch_mean",
    "width": 48,
    "weights": {"address": "https://example.org", "licence": "MIT", "gated": False},
    "sources": ["ours"],
}


def written(folder, **changed):
    """A recipe of one's own and its weights, as parameters of the part."""
    torch.manual_seed(0)
    state = create_network("vit_tiny_patch16_224", TINY).state_dict()
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    safetensors.torch.save_file(state, weights / "model.safetensors")
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump(OWN | changed))
    return {"path": str(path), "weights": str(weights)}


EXAMPLES = [written]
READ = {name: read_recipe(RECIPES / f"{name}.yaml") for name in names()}
# Networks of many layers take a second; one of each kind is built by default.
QUICK = ("uni", "virchow2", "conch", "conch_v1_5", "hibou_b", "ctranspath", "dinov3_s")


def one_line(error):
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in QUICK else pytest.mark.slow)
        for n, held in READ.items()
        if held.network
    ],
)
def test_the_network_of_a_recipe_is_the_published_one(name):
    """Its width, number, names and shapes of weights; those of others are refused."""
    held = READ[name]
    assert held.network is not None
    with torch.device("meta"):
        network = _build.make_network(held.network).eval()
        images = torch.zeros(1, 3, held.input.size, held.input.size)
        taken = taking(network, held.take)
        tokens = taken.forward_features(images)  # pyright: ignore[reportCallIssue]
        found = taken.forward_head(tokens, pre_logits=True)  # pyright: ignore[reportCallIssue]
    assert found.shape == (1, held.width)
    number = sum(value.numel() for value in network.parameters()) / 1e6
    assert held.parameters is None or abs(number / held.parameters - 1) < 0.01
    assert held.network.shapes == _build.shapes_of(network)
    other = {"another.weight": torch.zeros(2, 2)}
    with pytest.raises(InputError, match="does not fit the network") as caught:
        load_state(network, other, Path("other.pt"), "Is it?")
    assert "lacks" in one_line(caught) and "also has another.weight" in one_line(caught)


@pytest.mark.parametrize("name", READ)
def test_a_recipe_is_listed_and_says_where_its_weights_are(name):
    held = READ[name]
    (line,) = (
        line
        for line in Family(FAMILY).describe()
        if line.startswith(f"{{name: {name},")
    )
    assert held.weights.licence in line and f"{held.width}-d" in line
    assert ("gated" in line) == held.weights.gated
    assert held.weights.address.startswith("https://")
    part = components.check(FAMILY, Part(name=name))
    with pytest.raises(InputError, match="no weights given") as caught:
        components.build(FAMILY, part, "cpu", "float32")
    said = one_line(caught)
    assert held.weights.address in said and held.weights.licence in said
    assert ("accept its terms" in said) == held.weights.gated
    gone = components.check(
        FAMILY, Part.model_validate({"name": name, "weights": "no"})
    )
    assert Path(gone.parameters["weights"]).is_absolute()
    with pytest.raises(InputError, match=r"no weights at .*/no; "):
        components.build(FAMILY, gone, "cpu", "float32")


@pytest.mark.parametrize(
    "name",
    # Each is built before its file is read.
    [pytest.param(n, marks=() if n == "phikon" else pytest.mark.slow) for n in READ],
)
def test_files_of_a_recipes_weights_are_refused_in_one_line(name, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    other = create_network("resnet10t", {}).state_dict()
    torch.save(other, tmp_path / "other.pt")
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    torch.save({"state_dict": Evil()}, tmp_path / "code.pt")
    (tmp_path / "code.bin").write_bytes(pickle.dumps(Evil()))
    for file in ("other.pt", "other.safetensors"):
        whole = (tmp_path / file).read_bytes()
        part = tmp_path / file.replace("other", "part")
        part.write_bytes(whole[: len(whole) // 2])
    for file in sorted(tmp_path.iterdir()):
        part = Part.model_validate({"name": name, "weights": str(file)})
        with (
            warnings.catch_warnings(record=True) as warned,
            pytest.raises(InputError) as caught,
        ):
            warnings.simplefilter("always")
            components.build(FAMILY, part, "cpu", "float32")
        assert file.name in one_line(caught)
        assert not warned
    assert not (tmp_path / "pwned").exists()


def test_pretrained_is_refused_in_one_line_without_a_connection(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, said in (("uni2_h", "accept its terms and log in"), ("retccl", "no hub")):
        part = Part.model_validate({"name": name, "weights": "pretrained"})
        with pytest.raises(InputError, match=said) as caught:
            components.build(FAMILY, part, "cpu", "float32")
        assert READ[name].weights.address in one_line(caught)


def test_ones_own_recipe_gives_what_timm_gives(tmp_path, tiles):
    given = written(tmp_path)
    encoder = recipe.build("cpu", "float32", **given)
    small = tiles[:, :32, :32]
    network = create_network("vit_tiny_patch16_224", TINY).eval()
    file = Path(given["weights"]) / "model.safetensors"
    network.load_state_dict(safetensors.torch.load_file(file))
    mean, std = (
        torch.tensor(OWN["input"][k]).view(1, 3, 1, 1) * 255 for k in ("mean", "std")
    )
    with torch.inference_mode():
        batch = (torch.from_numpy(small.copy()).permute(0, 3, 1, 2) - mean) / std
        tokens = network.forward_features(batch)
    # A class token, two registers, four patches.
    wanted = torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], 1)
    np.testing.assert_allclose(encoder(small), wanted, atol=1e-5)
    same = timm.build(
        "cpu", "float32", model="vit_tiny_patch16_224", weights=str(file),
        mean=OWN["input"]["mean"], std=OWN["input"]["std"], fit="resize",
        take=OWN["take"], **TINY,
    )  # fmt: skip
    np.testing.assert_allclose(same(tiles), encoder(tiles), atol=1e-5)
    alone = recipe.build("cpu", "float32", **given, take="class_token")
    assert alone.dim == 24 and alone.digest != encoder.digest
    np.testing.assert_array_equal(alone(small), encoder(small)[:, :24])


def test_a_digest_is_of_what_the_weights_hold(tmp_path):
    first = recipe.build("cpu", "float32", **written(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    given = written(tmp_path / "elsewhere", title="Copied", sources=["copy"])
    assert recipe.build("cpu", "float32", **given).digest == first.digest
    state = safetensors.torch.load_file(tmp_path / "weights" / "model.safetensors")
    torch.save(state, tmp_path / "same.pt")
    given["weights"] = str(tmp_path / "same.pt")
    assert recipe.build("cpu", "float32", **given).digest == first.digest
    state["cls_token"] += 1
    torch.save(state, tmp_path / "same.pt")
    assert recipe.build("cpu", "float32", **given).digest != first.digest


def test_what_no_source_confirms_is_warned_of(tmp_path):
    given = written(tmp_path, unconfirmed=["its mean"])
    assert recipe.build("cpu", "float32", **given).warnings == (
        "ours: no source confirms its mean",
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 24}, "gives 48 values a tile, recipe ours says 24: is it "),
        ({"take": "mean"}, "take: Input should be 'pooled'"),
        ({"titel": "Ours"}, "titel: unknown key"),
        ({"network": None}, "network is given for library: timm"),
        ({"network": {"model": "vit_tiny_patch16_224",
                      "options": TINY | {"mlp_layer": "__import__('os')"}}},
         "no layer .*; have glumlp, mlp, swiglu"),
    ],
)  # fmt: skip
def test_unusable_recipes_are_refused_in_one_line(changed, said, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        recipe.build("cpu", "float32", **written(tmp_path, **changed))
    one_line(caught)
