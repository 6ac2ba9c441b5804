"""Family of encoders: ``build(device, precision, *, ...)`` -> Encoder."""

from mshisto_ray.encoders._encoder import (
    Encoder,
    Precision,
    check_takes,
    resolve_precision,
)
from mshisto_ray.encoders._network import (
    InputTransform,
    NetworkEncoder,
    create_network,
    load_weights,
    pooled_features,
)
from mshisto_ray.encoders._onnx import (
    ONNX_FILE,
    check_onnx_packages,
    export_onnx,
)
from mshisto_ray.encoders._projection import (
    HeadShape,
    make_head,
)

__all__ = [
    "ONNX_FILE",
    "Encoder",
    "HeadShape",
    "InputTransform",
    "NetworkEncoder",
    "Precision",
    "check_onnx_packages",
    "check_takes",
    "create_network",
    "export_onnx",
    "load_weights",
    "make_head",
    "pooled_features",
    "resolve_precision",
]
