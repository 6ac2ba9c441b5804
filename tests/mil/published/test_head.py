"""Heads of CLAM and ABMIL against plain steps of their own forward passes."""

import numpy as np
import pytest
import torch
from fixtures.abmil import abmil
from fixtures.abmil import forward as abmil_forward
from fixtures.clam import clam, forward
from safetensors.torch import load_file, save_file

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.head import load_head, write_head
from mshisto_ray.mil.published.head import HeadInput, read_published

ENCODER = {"name": "a", "digest": "b"}
ABOUT = {"unit": "slide", "target": {"column": "label"}}


def given(num):
    classes = tuple(f"class{i}" for i in range(num))
    kind = TargetConfig(column="label", classes=classes).build()
    return HeadInput(classes, kind, ENCODER, "0", 0.5)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("num", [2, 3])
def test_predictions_are_those_of_clam(tmp_path, num, per_class, wrapped):
    state = clam(num, per_class, wrapped)
    save_file(state, tmp_path / "clam.safetensors")
    write_head(
        tmp_path / "head",
        read_published(tmp_path / "clam.safetensors", given(num), ABOUT),
    )
    head = load_head(tmp_path / "head")
    assert head.models_for("anyone") == [0] and head.encoder == ENCODER
    (model,) = head.models
    x = torch.randn(9, 12)
    out = model.model(model.standardisation(x), torch.tensor([0, 9]))
    probabilities, weights = forward(state, x)
    torch.testing.assert_close(out.log_probabilities[0].exp(), probabilities)
    torch.testing.assert_close(out.attention, weights.mean(1))


def test_instance_classifiers_are_kept(tmp_path):
    state = clam(2, False, False)
    torch.save({"state_dict": state}, tmp_path / "clam.pt")
    head = read_published(tmp_path / "clam.pt", given(2), ABOUT)
    clusters = head.models[0].model.pooling.clusters.weight.unflatten(0, (2, 2))
    for c in range(2):
        torch.testing.assert_close(
            clusters[c], state[f"instance_classifiers.{c}.weight"]
        )


def test_the_published_camelyon_head(test_data):
    path = test_data / "heads" / "clam_sb_camelyon_1024.safetensors"
    head = read_published(path, given(2), ABOUT)
    assert head.dims == (1024,)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 1024))).float()
    (model,) = head.models
    out = model.model(model.standardisation(x), torch.tensor([0, 50]))
    probabilities, weights = forward(load_file(path), x)
    torch.testing.assert_close(out.log_probabilities[0].exp(), probabilities)
    torch.testing.assert_close(out.attention, weights[:, 0])


def test_what_is_no_such_head_is_refused(tmp_path):
    state = clam(2, False, False)
    save_file(state, tmp_path / "clam.safetensors")
    with pytest.raises(InputError, match="has 2 classes, 3 given"):
        read_published(tmp_path / "clam.safetensors", given(3), ABOUT)
    kept = {k: v for k, v in state.items() if "attention_b" not in k}
    save_file(kept, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="not a head of CLAM with gated attention"):
        read_published(tmp_path / "plain.safetensors", given(2), ABOUT)
    state["classifiers.weight"] = state["classifiers.weight"][:, :3].contiguous()
    save_file(state, tmp_path / "torn.safetensors")
    with pytest.raises(InputError, match="weights do not fit a head of CLAM"):
        read_published(tmp_path / "torn.safetensors", given(2), ABOUT)


@pytest.mark.parametrize("part", ["attention_w", "attention_weights", None])
@pytest.mark.parametrize("transformed", [True, False])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_predictions_are_those_of_abmil(tmp_path, outputs, transformed, part):
    state = abmil(outputs, part, transformed)
    save_file(state, tmp_path / "abmil.safetensors")
    num = max(outputs, 2)
    read = read_published(tmp_path / "abmil.safetensors", given(num), ABOUT)
    write_head(tmp_path / "head", read)
    head = load_head(tmp_path / "head")
    assert head.about["source"]["model"] == "ABMIL" and head.dims == (12,)
    (model,) = head.models
    x = torch.randn(9, 12)
    out = model.model(model.standardisation(x), torch.tensor([0, 9]))
    probabilities, weights = abmil_forward(state, x)
    torch.testing.assert_close(out.log_probabilities[0].exp(), probabilities)
    torch.testing.assert_close(out.attention, weights)


def test_an_abmil_that_is_no_head_on_embeddings_is_refused(tmp_path):
    path = tmp_path / "abmil.safetensors"

    def refused(changes, message):
        state = {**abmil(1, None, True), **changes}
        save_file({k: v for k, v in state.items() if v is not None}, path)
        with pytest.raises(InputError, match=message):
            read_published(path, given(2), ABOUT)

    convolution = {"feature_extractor_part1.0.weight": torch.zeros(4, 1, 5, 5)}
    refused(convolution, r"also has feature_extractor_part1\.0: its convolutions")
    refused({"norm.weight": torch.zeros(3)}, "has no place for them")
    refused({"attention.0.bias": None}, r"there is no attention\.0\.bias")
    refused({"attention.2.weight": torch.zeros(3, 5)}, "3 branches")
    refused({"attention.2.weight": torch.zeros(1, 4)}, "do not fit a head of ABMIL")
    with pytest.raises(InputError, match="has 2 classes, 3 given"):
        save_file(abmil(1, None, True), path)
        read_published(path, given(3), ABOUT)
