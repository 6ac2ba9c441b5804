"""What is trained on, in one line."""

from __future__ import annotations

from mshisto_ray.learning.given_folds import read_given_folds
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.input.bags import Bags


def summarise(bags: Bags, split: SplitConfig) -> str:
    """Return the slides (or bags), patients, classes, and where the folds come from.

    Args:
        bags: with targets.
        split: how folds are drawn where none are given.
    """
    assert bags.targets is not None
    is_table = bags.encoder is None
    num = len(bags) if is_table else sum(max(1, len(m)) for m in bags.members)
    classes = bags.kind.describe(bags.targets, bags.classes)
    return (
        f"{num} {'bags' if is_table else 'slides'}, {len(set(bags.patient_ids))} "
        f"patients; {classes}; {_folds(bags, split)}"
    )


def _folds(bags: Bags, split: SplitConfig) -> str:
    times = f", {split.repeats} times" if split.repeats > 1 else ""
    if bags.folds is None:
        of = ""
        if split.together and bags.groups:
            num = len(set(bags.groups))
            of = f" of {num} values of {split.together!r} that stay together,"
        return f"{split.folds} folds{of} drawn with split.seed={split.seed}{times}"
    given = read_given_folds(bags.folds, bags.patient_ids)
    what = "split given" if given.is_split else "folds given"
    return f"{what} in column {split.column!r}: {given.words}{times}"
