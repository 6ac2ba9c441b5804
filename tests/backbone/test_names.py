"""Weights by the names of other libraries give the features that those give."""

import pytest
import torch
from safetensors.torch import load_file

from mshisto_ray.backbone.attention_pooling import AttentionPooledNetwork
from mshisto_ray.backbone.names import as_timm
from mshisto_ray.backbone.network import create_network
from mshisto_ray.backbone.weights import load_state

SMALL = {
    "embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 14, "img_size": 42,
    "num_classes": 0,
}  # fmt: skip
SWIGLU = {"mlp_ratio": 5.33334, "mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
HUB = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 96, "patch_size": 14, "layer_norm_eps": 1e-6,
}  # fmt: skip
SCALED = {"init_values": 1e-5}


def perturb(network):
    """Random values everywhere: a fresh network has zeros that hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [42, 70])
@pytest.mark.parametrize(
    ("kind", "config", "model", "options"),
    [
        ("ViT", {}, "vit_tiny_patch16_224", {}),
        ("Dinov2", {}, "vit_tiny_patch16_224", SCALED),
        ("Dinov2", {"use_swiglu_ffn": True}, "vit_tiny_patch16_224", SCALED | SWIGLU),
        ("Dinov2WithRegisters", {}, "vit_small_patch14_reg4_dinov2", {}),
    ],
)
def test_transformers_features_are_the_same(
    kind, config, model, options, image_size, tmp_path
):
    library = pytest.importorskip("transformers")
    if kind == "ViT" and image_size != 42:
        pytest.skip("transformers interpolates its positions on request only")
    settings = getattr(library, f"{kind}Config")(**HUB, image_size=image_size, **config)
    hub = perturb(getattr(library, f"{kind}Model")(settings))
    hub.save_pretrained(tmp_path)
    images = torch.randn(3, 3, 42, 42, generator=torch.Generator().manual_seed(1))
    network = create_network(model, SMALL | options).eval()
    state = load_file(tmp_path / "model.safetensors")
    load_state(network, as_timm(state, network.state_dict(), "auto"), tmp_path)
    with torch.inference_mode():
        wanted = hub(pixel_values=images).last_hidden_state
        found = network.forward_features(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_names_of_dinov2s_authors():
    network = create_network("vit_small_patch14_reg4_dinov2", SMALL | SWIGLU)
    wanted = perturb(network).state_dict()
    theirs = {"mask_token": torch.zeros(1, 24)}
    for name, value in wanted.items():
        name = name.replace("reg_token", "register_tokens")
        name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        theirs[name] = value
    # They add a position to the class token, too: here half of what timm's token is.
    half = wanted["cls_token"] / 2
    theirs["cls_token"] = half
    theirs["pos_embed"] = torch.cat([half, wanted["pos_embed"]], 1)
    found = as_timm(theirs, wanted, "auto")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_swin_of_earlier_timm():
    options = {"num_classes": 0, "embed_layer": "ConvStem", "depths": (1, 1, 1, 1)}
    network = create_network("swin_tiny_patch4_window7_224", options).eval()
    wanted = network.state_dict()
    theirs = {"layers.0.blocks.1.attn_mask": torch.zeros(1)}
    for name, value in wanted.items():
        head, _, tail = name.partition(".downsample.")
        stage = f"layers.{int(head[-1]) - 1}.downsample.{tail}" if tail else name
        theirs[stage] = value
    assert theirs.keys() - wanted.keys() and "layers.0.downsample.norm.weight" in theirs
    assert as_timm(theirs, wanted, "swin").keys() == wanted.keys()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 768)


@pytest.mark.parametrize(
    ("names", "kind"), [("conch", "multihead"), ("conch_v1_5", "projected")]
)
def test_towers_with_an_attention_pool(names, kind):
    trunk = create_network("vit_tiny_patch16_224", SMALL)
    network = perturb(AttentionPooledNetwork(trunk, kind, 16, 4))
    wanted = network.state_dict()
    prefix = "visual." if names == "conch" else ""
    theirs = {f"{prefix}{name}": value for name, value in wanted.items()}
    if names == "conch":
        theirs |= {"logit_scale": torch.zeros(()), "text.cls_emb": torch.zeros(4)}
    found = as_timm(theirs, wanted, names)
    assert found.keys() == wanted.keys()
    images = torch.randn(2, 3, 42, 42, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tokens = network.forward_features(images)
        out = network.forward_head(tokens, pre_logits=True)
        by_hand = read_by_hand(network, tokens[0], kind)
    assert out.shape == (2, 16) and tokens.shape == (2, 10, 24)
    torch.testing.assert_close(out[0], by_hand)


def read_by_hand(network, tokens, kind):
    """One query, four heads, a loop over each: scaled dot-product attention."""
    pool = network.attn_pool_contrast
    query, keys = pool.ln_q(pool.query)[0], pool.ln_k(tokens)
    if kind == "multihead":
        a = pool.attn
        b = a.in_proj_bias.chunk(3)
        q = a.q_proj_weight @ query + b[0]
        k, v = keys @ a.k_proj_weight.T + b[1], keys @ a.v_proj_weight.T + b[2]
        final = a.out_proj
    else:
        q, (k, v) = pool.to_q(query), pool.to_kv(keys).chunk(2, -1)
        final = pool.to_out
    heads = []
    for q1, k1, v1 in zip(q.chunk(4), k.chunk(4, -1), v.chunk(4, -1), strict=True):
        heads.append(torch.softmax(k1 @ q1 / len(q1) ** 0.5, 0) @ v1)
    return network.ln_contrast(final(torch.cat(heads)))


def test_positions_of_another_grid_are_interpolated():
    trunk = create_network("vit_tiny_patch16_224", SMALL | {"img_size": 84})
    network = AttentionPooledNetwork(trunk, "projected", 16, 4)
    state = network.state_dict()
    small = {**state, "trunk.pos_embed": torch.ones(1, 10, 24)}
    found = as_timm(small, state, "conch_v1_5")["trunk.pos_embed"]
    assert found.shape == (1, 37, 24)
    torch.testing.assert_close(found, torch.ones_like(found))
