"""A graph run by OpenVINO on a CPU, called as a session of onnxruntime is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mshisto_ray.backbone.precision import Precision
from mshisto_ray.config import InputError

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoSession:
    """A compiled graph. Of any number of tiles it takes one a call.

    On one core a tile at a time is the fastest: its maps stay in the caches; and its
    embedding does not depend on the batch that it came in.
    """

    def __init__(self, path: Path, precision: Precision, threads: int):
        """Compile a graph.

        Raises:
            InputError: OpenVINO is not installed, or cannot read the graph.
        """
        # It reports each use to its makers otherwise.
        os.environ.setdefault("OPENVINO_TELEMETRY_DISABLED", "1")
        try:
            import openvino
        except ImportError:
            raise InputError(
                "engine: openvino is not installed: pip install 'mshisto-ray[openvino]'"
            ) from None
        if precision not in _HINTS:
            raise InputError(f"engine: openvino does not compute in {precision}")
        try:
            model = openvino.Core().read_model(path)
            shape = model.input(0).partial_shape
            if shape[0].is_dynamic:
                shape[0] = 1
                model.reshape(shape)
            settings = {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
            }
            compiled = openvino.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            first = (str(error).splitlines() or [""])[0]
            raise InputError(f"engine: openvino cannot run {path} ({first})") from None
        self._request = compiled.create_infer_request()

    def run(
        self, outputs: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        """Outputs by name, of inputs by name."""
        self._request.infer(dict(given), share_inputs=True)
        return [self._request.get_tensor(name).data.copy() for name in outputs]
