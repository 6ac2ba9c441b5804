import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import timm as timm_library
import torch

from mshisto_ray import components
from mshisto_ray.backbone import network as _network
from mshisto_ray.backbone.network import InputTransform, create_network
from mshisto_ray.backbone.precision import resolve_precision
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.encoders import check_takes, checkpoint, colour_stats, timm
from mshisto_ray.training.onnx import check_onnx_packages, export_onnx

FAMILY = "mshisto_ray.encoders"
SMALL = {"model": "mobilenetv3_small_050", "weights": "random"}


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "trained"
    network = timm_library.create_model("mobilenetv3_small_050", pretrained=False)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "as_is")
    backbone = {"model": "mobilenetv3_small_050", "options": {}}
    checkpoint.save(path, network, transform, backbone, 1024, [0.5, 1.0], 64)
    return path, network


@pytest.fixture(params=["timm", "checkpoint", "colour_stats"])
def encoder(request, directory):
    parameters = {"timm": SMALL, "checkpoint": {"path": str(directory[0])}}
    part = Part(name=request.param, **parameters.get(request.param, {}))
    part = components.check(FAMILY, part)
    return components.build(FAMILY, part, "cpu", "float32")


def test_every_encoder_keeps_the_familys_contract(encoder, tiles):
    out = encoder(tiles)
    assert out.shape == (5, encoder.dim) and out.dtype == np.float32
    assert np.isfinite(out).all()
    # A tile's embedding does not depend on the other tiles of its batch.
    single = np.concatenate([encoder(tiles[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(out, single, rtol=1e-3, atol=1e-5)
    assert np.abs(out[0] - out[1]).max() > 0
    assert len(encoder.digest) == 32


def test_every_part_is_listed():
    assert components.available(FAMILY) == ["checkpoint", "colour_stats", "timm"]


def test_colour_statistics_equal_numpys(tiles):
    quantiles = (0.0, 0.1, 0.5, 0.9, 1.0)
    out = colour_stats.build("cpu", "float32", quantiles=quantiles)(tiles)
    for i, tile in enumerate(tiles):
        flat = tile.reshape(-1, 3) / 255
        expected = [flat.mean(0), flat.std(0)]
        expected += [
            np.quantile(flat, q, axis=0, method="inverted_cdf") for q in quantiles
        ]
        np.testing.assert_allclose(out[i], np.concatenate(expected), atol=1e-6)


def test_colour_statistics_ignore_where_pixels_are(tiles):
    encode = colour_stats.build("cpu", "bfloat16")
    shuffled = np.random.default_rng(1).permuted(tiles.reshape(5, -1, 3), axis=1)
    for tile, mixed in zip(tiles, shuffled, strict=True):
        permutation = np.random.default_rng(2).permutation(64 * 64)
        mixed = tile.reshape(-1, 3)[permutation].reshape(tile.shape)
        np.testing.assert_array_equal(encode(tile[None]), encode(mixed[None]))


def test_timm_features_are_timms_own_pooled_features(tiles):
    encode = timm.build("cpu", "float32", **SMALL, mean=(0.5,) * 3, std=(0.25,) * 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm_library.create_model("mobilenetv3_small_050").eval()
    scaled = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        maps = network.forward_features(scaled)
        expected = network.forward_head(maps, pre_logits=True)
    np.testing.assert_allclose(encode(tiles), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32(tiles):
    full = timm.build("cpu", "float32", **SMALL)(tiles)
    half = timm.build("cpu", "bfloat16", **SMALL)(tiles)
    assert half.dtype == np.float32
    assert np.abs(full - half).max() < 0.05 * np.abs(full).max()


def test_random_weights_depend_on_the_seed_alone(tiles):
    torch.manual_seed(123)
    first = timm.build("cpu", "float32", **SMALL, seed=1)
    again = timm.build("cpu", "float32", **SMALL, seed=1)
    other = timm.build("cpu", "float32", **SMALL, seed=2)
    assert first.digest == again.digest != other.digest
    np.testing.assert_array_equal(first(tiles), again(tiles))


def test_input_transform_is_part_of_the_identity():
    plain = timm.build("cpu", "float32", **SMALL)
    resized = timm.build("cpu", "float32", **SMALL, fit="resize", size=96)
    assert plain.digest != resized.digest


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_local_weights_with_a_wrappers_prefix(tmp_path, tiles, suffix):
    state = timm_library.create_model("mobilenetv3_small_050").state_dict()
    state = {f"module.backbone.{k}": v.half() for k, v in state.items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    encode = timm.build(
        "cpu", "float32", model="mobilenetv3_small_050", weights=str(path)
    )
    assert np.isfinite(encode(tiles)).all()


def test_weights_that_do_not_fit_are_explained(tmp_path):
    network = timm_library.create_model("mobilenetv3_small_050", num_classes=7)
    state = network.state_dict()
    del state["conv_stem.weight"]
    state["surplus"] = torch.zeros(1)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(InputError) as caught:
        timm.build("cpu", "float32", model="mobilenetv3_small_050", weights=str(path))
    text = str(caught.value)
    assert "lacks conv_stem.weight" in text and "also has surplus" in text
    assert "classifier.bias is (7,) in the file, (1000,) in the network" in text
    assert "num_classes" in text


def test_code_in_a_weights_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    path = tmp_path / "weights.pt"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(InputError, match="save it as safetensors"):
        timm.build("cpu", "float32", model="resnet10t", weights=str(path))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"model": "resnet999", "weights": "random"}, "timm has no 'resnet999'"),
        ({"model": "resnet10t", "weights": "gone.pt"}, "no such weights file"),
        (
            {"model": "resnet10t", "weights": "random", "no_such_option": 1},
            "does not take an option",
        ),
    ],
)
def test_unusable_encoders(parameters, said):
    with pytest.raises(InputError, match=said):
        timm.build("cpu", "float32", **parameters)


def test_weights_that_are_only_named_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"weights.safetensors.*git LFS pointer"):
        timm.build("cpu", "float32", model="resnet10t", weights=str(path))


def test_a_tile_size_that_a_transformer_does_not_take():
    encode = timm.build(
        "cpu", "float32", model="vit_tiny_patch16_224", weights="random", depth=1
    )
    with pytest.raises(InputError, match=r"does not take tiles of 64 px.*fit: resize"):
        check_takes(encode, 64)
    fitted = timm.build(
        "cpu", "float32", model="vit_tiny_patch16_224", weights="random", depth=1,
        fit="resize",
    )  # fmt: skip
    check_takes(fitted, 64)


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


def test_real_imagenet_weights(test_data, tiles):
    weights = test_data / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors"
    encode = timm.build(
        "cpu", "float32", model="mobilenetv2_100", weights=str(weights),
        mean=(0.5,) * 3, std=(0.5,) * 3, num_classes=1001, pad_type="same",
    )  # fmt: skip
    assert encode.dim == 1280
    assert encode(tiles).std(axis=0).mean() > 0
    with pytest.raises(InputError, match="num_classes"):
        timm.build("cpu", "float32", model="mobilenetv2_100", weights=str(weights))


def test_precision_is_as_requested():
    assert resolve_precision("float32", "cpu") == "float32"
    assert resolve_precision("auto", "cpu") in ("float32", "bfloat16")


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


@pytest.mark.slow
def test_the_onnx_graph_gives_the_networks_embeddings(tiles, tmp_path):
    network = timm_library.create_model("resnet10t", num_classes=0)
    transform = InputTransform((0.7, 0.6, 0.7), (0.1, 0.2, 0.1), 64, "as_is")
    backbone = {"model": "resnet10t", "options": {"num_classes": 0}}
    checkpoint.save(tmp_path, network, transform, backbone, 512, [0.5], 64)
    assert export_onnx(tmp_path, 64) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    (found,) = session.run(None, {"tiles": tiles})
    wanted = checkpoint.build("cpu", "float32", path=str(tmp_path))(tiles)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert not list(tmp_path.glob(".*"))


def test_export_without_its_packages_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mshisto-ray\[onnx\]'"):
        check_onnx_packages()
