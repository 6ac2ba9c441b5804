import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError, validate
from mshisto_ray.contrastive.presets import PRESETS
from mshisto_ray.encoders import checkpoint
from mshisto_ray.training.model import (
    ModelConfig,
    build_model,
    check_norm,
    join_norm,
    mixes_images,
    num_parameters,
    weights_digest,
)


def preset_model(name, tile_px, **override):
    config = validate(ModelConfig, {**PRESETS[name]["model"], **override})
    return build_model(config, tile_px, seed=0)


@pytest.mark.slow
def test_tan2023_has_the_published_number_of_parameters(tmp_path):
    model = preset_model("tan2023", 256)
    assert num_parameters([model]) == 49_586_240
    assert num_parameters([model.backbone]) == 14_714_688
    assert model.dim == 512
    kinds = [type(layer).__name__ for layer in model.projection]
    assert kinds == ["Linear", "BatchNorm1d", "Linear", "BatchNorm1d", "Linear"]
    widths = [(m.in_features, m.out_features) for m in model.projection[::2]]
    assert widths == [(32768, 1024), (1024, 1024), (1024, 256)]
    described = {"model": "vgg16", "options": PRESETS["tan2023"]["model"]["options"]}
    transform = InputTransform((0.5,) * 3, (0.5,) * 3, 64, "as_is")
    checkpoint.save(
        tmp_path, model.backbone, transform, described, model.dim, [0.5, 1.0], 256
    )
    encoder = checkpoint.build("cpu", "float32", path=str(tmp_path))
    tiles = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.inference_mode():
        wanted = model.eval().backbone.forward_features(x).mean(dim=(2, 3))
    np.testing.assert_allclose(encoder(tiles), wanted, atol=1e-5)


def test_gildenblat2019_projects_2048_features_to_128():
    model = preset_model("gildenblat2019", 64)
    assert model.dim == 2048
    (layer,) = model.projection
    assert (layer.in_features, layer.out_features) == (2048, 128)


def test_small_preset_has_the_structure_of_the_large_one():
    model = preset_model("tan2023_small", 64)
    kinds = [type(layer).__name__ for layer in model.projection]
    assert kinds == ["Linear", "BatchNorm1d", "Linear", "BatchNorm1d", "Linear"]
    assert model.projection[0].in_features == 512 * 2 * 2


def test_the_seed_decides_the_first_weights():
    one, two, three = (
        build_model(ModelConfig(backbone="resnet10t"), 64, seed) for seed in (0, 0, 1)
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    first = [next(m.parameters()) for m in (one, three)]
    assert not torch.equal(*first)


def test_embeddings_come_before_the_projection():
    model = build_model(ModelConfig(backbone="resnet10t"), 64, 0).eval()
    x = torch.randn(2, 3, 64, 64)
    assert model.embed(x).shape == (2, 512) and model(x).shape == (2, 128)
    torch.testing.assert_close(model(x), model.projection(model.embed(x)))


def test_tiles_that_the_backbone_does_not_take_are_refused():
    config = ModelConfig(backbone="vit_tiny_patch16_224")
    with pytest.raises(InputError, match="does not take tiles of 64 px"):
        build_model(config, 64, 0)


def test_a_network_without_pre_logits_keeps_its_head():
    config = ModelConfig(backbone="resnet10t", options={"pre_logits": False})
    with pytest.raises(InputError, match="resnet10t has no pre_logits"):
        build_model(config, 64, 0)


@pytest.mark.parametrize(("norm", "moves"), [("own", True), ("frozen", False)])
def test_frozen_statistics_stay_and_are_those_of_evaluation(norm, moves):
    model = build_model(ModelConfig(backbone="resnet10t", norm=norm), 64, 0).train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    x = torch.randn(4, 3, 64, 64)
    trained = model(x)
    changed = [not torch.equal(v, before[k]) for k, v in model.named_buffers()]
    assert all(changed) if moves else not any(changed)
    assert mixes_images(model) == moves
    assert torch.equal(trained, model.eval()(x)) != moves
    # What batch norm scales and shifts by is learnt all the same.
    trained.square().sum().backward()
    assert model.backbone.bn1.weight.grad.abs().max() > 0


def test_joint_statistics_keep_the_names_of_weights():
    config = ModelConfig(backbone="mobilenetv3_small_050", norm="sync")
    plain, joint = build_model(config, 64, 0), join_norm(build_model(config, 64, 0))
    kinds = {type(layer).__name__ for layer in joint.modules()}
    assert {"SyncBatchNorm", "SyncBatchNormAct"} <= kinds
    assert not {"BatchNorm2d", "BatchNormAct2d", "BatchNorm1d"} & kinds
    joint.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(joint.eval()(x), plain.eval()(x))


def test_joint_statistics_without_a_gpu_are_refused():
    with pytest.raises(InputError, match=r"set model\.norm=frozen.*or set workers=1"):
        check_norm("sync", 2, "cpu")
    check_norm("sync", 1, "cpu")
    check_norm("sync", 2, "cuda")
    check_norm("own", 2, "cpu")


@pytest.mark.parametrize("kind", ["pooled", "maps"])
def test_the_descriptor_is_what_the_loss_saw(kind, tmp_path):
    head = {"input": kind, "hidden": [32], "dim": 16}
    config = ModelConfig.model_validate({"backbone": "resnet10t", "projection": head})
    model = build_model(config, 64, seed=0).eval()
    transform = InputTransform((0.5,) * 3, (0.5,) * 3, 64, "as_is")
    described = {"model": "resnet10t", "options": {"num_classes": 0}}
    shared = (described, model.dim, [0.5], 64)
    projection = (model.projection, model.shape)
    checkpoint.save(tmp_path / "a", model.backbone, transform, *shared, projection)
    build = functools.partial(checkpoint.build, "cpu", "float32")
    encoder = build(path=str(tmp_path / "a"), output="projection")
    tiles = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.inference_mode():
        wanted = model(x)
    assert encoder.dim == 16
    np.testing.assert_allclose(encoder(tiles), wanted, rtol=1e-4, atol=1e-5)
    plain = build(path=str(tmp_path / "a"))
    assert plain.dim == 512 and plain.digest != encoder.digest
    checkpoint.save(tmp_path / "b", model.backbone, transform, *shared)
    with pytest.raises(InputError, match=r"no projection\.safetensors: set output=fea"):
        build(path=str(tmp_path / "b"), output="projection")


def test_weights_are_identified_by_content_not_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("random").mkdir()  # still a keyword of the config
    assert weights_digest("random") == "random"
    assert weights_digest("absent.pt") == "absent.pt"
    for name, tail in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        # Files of one size that differ in a single byte, anywhere.
        Path(name).write_bytes(bytes(10**6) + tail + bytes(10**6 + 1))
    assert weights_digest("a.pt") == weights_digest("b.pt") != weights_digest("c.pt")


def test_a_relative_path_of_weights_is_made_absolute_before_workers(
    tmp_path, monkeypatch
):
    """Workers run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    for given in ("a.pt", "./a.pt", str(tmp_path / "a.pt")):
        assert validate(ModelConfig, {"weights": given}).weights == f"{tmp_path}/a.pt"
    for word in ("random", "pretrained"):
        assert validate(ModelConfig, {"weights": word}).weights == word
    with pytest.raises(InputError, match=r"weights.*s3 is not supported"):
        validate(ModelConfig, {"weights": "s3://bucket/a.pt"})
