import numpy as np
import onnxruntime
import pytest
import timm as timm_library

from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError
from mshisto_ray.encoders import checkpoint
from mshisto_ray.training.onnx import check_onnx_packages, export_onnx


@pytest.mark.slow
def test_the_onnx_graph_gives_the_networks_embeddings(tmp_path):
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
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
