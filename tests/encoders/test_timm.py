import numpy as np
import pytest
import safetensors.torch
import timm as timm_library
import torch

from mshisto_ray.config import InputError
from mshisto_ray.encoders import check_takes, timm

SMALL = {"model": "mobilenetv3_small_050", "weights": "random"}
EXAMPLES = [SMALL]


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
    with pytest.raises(InputError, match="save them as safetensors"):
        timm.build("cpu", "float32", model="resnet10t", weights=str(path))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"model": "resnet999", "weights": "random"}, "timm has no 'resnet999'"),
        ({"model": "owkin/phikon-v2", "weights": "random"}, "give .*name: phikon_v2"),
        (
            {"model": "resnet10t", "weights": "random", "checkpoint_path": "x.pt"},
            "checkpoint_path: weights are not loaded by options",
        ),
        ({"model": "hf-hub:Ours/ours", "weights": "random"}, "an address, not timm's"),
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


@pytest.mark.parametrize("name", ["weights.safetensors", "pytorch_model.bin"])
def test_a_pointer_in_place_of_weights(name, tmp_path):
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=rf"{name} is a pointer of git LFS"):
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


def test_tokens_without_pooling_are_refused_or_taken():
    given = {"model": "vit_tiny_patch16_224", "weights": "random", "depth": 1}
    with pytest.raises(InputError, match=r"gives 197 x 192 values a tile.*set take"):
        timm.build("cpu", "float32", **given, global_pool="")
    both = timm.build(
        "cpu", "float32", **given, global_pool="", take="class_token_and_patch_mean"
    )
    assert both.dim == 384
    with pytest.raises(InputError, match="no class token"):
        timm.build("cpu", "float32", model="resnet10t", weights="random",
                   take="class_token")  # fmt: skip


def test_a_transformer_is_tried_at_the_size_it_is_built_for():
    encode = timm.build(
        "cpu", "float32", model="vit_small_patch14_dinov2", weights="random", depth=1,
        img_size=28, fit="resize",
    )  # fmt: skip
    check_takes(encode, 64)


@pytest.mark.parametrize("act_layer", ["silu", "SiLU", "torch.nn.SiLU"])
def test_layers_are_given_by_name(act_layer):
    encode = timm.build(
        "cpu", "float32", model="vit_tiny_patch16_224", weights="random", depth=1,
        mlp_layer="timm.layers.SwiGLUPacked", act_layer=act_layer, mlp_ratio=2,
    )  # fmt: skip
    mlp = encode.network.blocks[0].mlp
    assert type(mlp).__name__ == "GluMlp" and type(mlp.act).__name__ == "SiLU"


@pytest.mark.slow
def test_weights_of_a_published_network_do_not_get_timms_mean(tmp_path):
    path = tmp_path / "weights.safetensors"
    network = timm_library.create_model("resnet50", num_classes=0)
    safetensors.torch.save_file(network.state_dict(), path)
    given = {"model": "resnet50", "weights": str(path), "num_classes": 0}
    (warning,) = timm.build("cpu", "float32", **given).warnings
    assert "shapes of lunit_resnet50" in warning and "else give mean and std" in warning
    mean, std = (0.7,) * 3, (0.2,) * 3
    assert timm.build("cpu", "float32", **given, mean=mean, std=std).warnings == ()


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


def test_weights_that_cannot_be_downloaded_end_in_one_line_with_the_way_out(caplog):
    with pytest.raises(InputError) as error:
        timm.build("cpu", "float32", model="resnet10t", weights="pretrained")
    (line,) = str(error.value).splitlines()
    assert line.startswith("weights=pretrained: cannot be downloaded (")
    assert "create_model('resnet10t', pretrained=True)" in line
    assert "weights=/path/to/file" in line
    assert not caplog.records, "the hub's own lines on every try"
