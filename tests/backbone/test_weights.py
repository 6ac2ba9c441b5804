import pytest
import safetensors.torch
import torch
from torch import nn

from mshisto_ray.backbone.weights import find_weights, load_weights, read_state
from mshisto_ray.config import InputError


def test_a_directory_is_searched_for_its_weights(tmp_path):
    with pytest.raises(InputError, match="holds no weights"):
        find_weights(tmp_path)
    (tmp_path / "network.pth").touch()
    (tmp_path / "config.json").touch()
    assert find_weights(tmp_path).name == "network.pth"
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(InputError, match=r"2 files .*\(network.pth, other.safetens"):
        find_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert find_weights(tmp_path).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match="holds 4 files"):
        find_weights(tmp_path)
    assert find_weights(tmp_path, ["gone", "other.safetensors"]).name.startswith("o")
    assert find_weights(tmp_path / "network.pth") == tmp_path / "network.pth"


@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated")
def test_torchscript_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(InputError, match=r"TorchScript archive.*name: onnx") as caught:
        read_state(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list, not weights by name"),
        (torch.zeros(2), "holds a Tensor, not weights by name"),
    ],
)
def test_files_without_names_are_refused(content, said, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=said):
        read_state(tmp_path / "weights.pt")


def test_a_truncated_file_is_refused_in_one_line(tmp_path):
    state = {"weight": torch.zeros(64, 64)}
    safetensors.torch.save_file(state, tmp_path / "whole.safetensors")
    torch.save(state, tmp_path / "whole.pt")
    for suffix in ("safetensors", "pt"):
        whole = (tmp_path / f"whole.{suffix}").read_bytes()
        path = tmp_path / f"part.{suffix}"
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError) as caught:
            read_state(path)
        assert len(str(caught.value).splitlines()) == 1


def test_weights_replace_parameters_that_hold_no_numbers(tmp_path):
    path = tmp_path / "weights.safetensors"
    state = {"weight": torch.ones(2, 3).half(), "bias": torch.ones(2)}
    safetensors.torch.save_file(state, path)
    with torch.device("meta"):
        network = nn.Linear(3, 2)
    load_weights(network, path)
    assert network(torch.ones(1, 3)).tolist() == [[4.0, 4.0]]
    assert network.weight.dtype == torch.float32
