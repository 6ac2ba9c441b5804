"""Family of targets: what a model predicts, one kind a file.

``build(*, ...)`` gives a ``Target``; its parameters are the keys beside ``kind`` in a
config. See ``_target`` for what a target owns.
"""

from mshisto_ray.learning.targets._cells import left_out
from mshisto_ray.learning.targets._config import TARGETS, TargetConfig, restore_target
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._target import Encoded, Strata, Target

__all__ = [
    "TARGETS",
    "Encoded",
    "FittedTarget",
    "Strata",
    "Target",
    "TargetConfig",
    "left_out",
    "restore_target",
]
