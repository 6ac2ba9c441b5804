"""Family of published studies: ``build(data, *, ...)`` gives a study to run again."""

from mshisto_ray.studies._study import (
    Study,
    StudyUnit,
    SweptPoint,
    UnitResult,
    UnitSweep,
)

__all__ = [
    "Study",
    "StudyUnit",
    "SweptPoint",
    "UnitResult",
    "UnitSweep",
]
