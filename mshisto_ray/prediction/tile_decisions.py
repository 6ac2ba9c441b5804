"""What a head of tiles decides on each of them, as columns."""

from __future__ import annotations

import pyarrow as pa

from mshisto_ray.mil.head import Head
from mshisto_ray.mil.predict import HeadPrediction

CALIBRATED, DECISION = "calibrated_", "decision"


def tile_decisions(
    head: Head, prediction: HeadPrediction | None, num: int
) -> dict[str, pa.Array]:
    """``calibrated_<class>`` with a calibration, and ``decision``; none without one.

    Args:
        head: that predicted them.
        prediction: of a bag's tiles; None where there is none.
        num: number of these tiles.
    """
    if head.of_tiles is None:
        return {}
    rules = head.of_tiles.rules
    names = [CALIBRATED + name for name in head.classes] if rules.calibration else []
    if prediction is None or prediction.instance_probabilities is None:
        empty = dict.fromkeys(names, pa.nulls(num, pa.float64()))
        return {**empty, DECISION: pa.nulls(num, pa.string())}
    values = prediction.instance_probabilities
    if prediction.calibrated_instances is not None:
        values = prediction.calibrated_instances
    columns = {name: pa.array(values[:, i].copy()) for i, name in enumerate(names)}
    decided = [head.classes[code] for code in rules.decide(values)]
    return {**columns, DECISION: pa.array(decided, pa.string())}
