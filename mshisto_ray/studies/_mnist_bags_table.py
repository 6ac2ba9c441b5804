"""The tables of MNIST-bags: AUROC, what attention gains, where it looks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from mshisto_ray.learning.metrics import auroc
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import UnitResult

# A linear model of the mean of a bag's pixels.
FLOOR = "floor"
# What gains are of.
_FIRST = "attention"

# A number of each seed, for each number of training bags.
_Row = list[dict[int, float]]


@dataclass(frozen=True)
class DigitTable:
    """What the tables show.

    Attributes:
        sizes: mean sizes of bags, a group of tables each.
        num_bags: numbers of training bags, a column each.
        poolings: a row each, the floor among them.
        seeds: how many.
        test_bags: how many.
    """

    sizes: Sequence[float]
    num_bags: Sequence[int]
    poolings: Sequence[str]
    seeds: int
    test_bags: int

    def text(self, done: Mapping[str, UnitResult]) -> str:
        """Markdown of all tables that have a number."""
        parts = []
        for size in self.sizes:
            tested = self._values(size, done, _test_auroc)
            for title, values in (
                ("test AUROC", tested),
                (f"gain of {_FIRST}", _gains(tested)),
                ("attention against nines", self._values(size, done, _attention)),
            ):
                rows = [
                    [name, *(_cell(by_seed.values(), self.seeds) for by_seed in row)]
                    for name, row in values.items()
                ]
                rows = [row for row in rows if any(row[1:])]
                if rows:
                    columns = (f"{num} training bags" for num in self.num_bags)
                    header = [f"{title}, mean size {size:g}", *columns]
                    parts.append(_study.markdown(header, rows))
        return "\n".join([*parts, self._caption()])

    def _values(
        self,
        size: float,
        done: Mapping[str, UnitResult],
        value: Callable[[UnitResult], float],
    ) -> dict[str, _Row]:
        """The value of all units that have one, by pooling."""
        found: dict[str, _Row] = {}
        for name in self.poolings:
            found[name] = []
            for num in self.num_bags:
                names = {s: unit_name(name, size, num, s) for s in range(self.seeds)}
                known = {s: value(done[n]) for s, n in names.items() if n in done}
                # Without attention there is nothing to hold against nines.
                found[name].append({s: v for s, v in known.items() if v == v})
        return found

    def _caption(self) -> str:
        return (
            "Mean, 95 % t-interval over seeds (in square brackets how many, where not "
            f"{self.seeds}); gains paired by seed. Bag sizes are normal, their "
            "standard deviation a fifth of the mean, drawn before the class; half of "
            f"the bags positive, {self.test_bags} test bags; Adam, lr 5e-4, weight "
            "decay 1e-4, 20 epochs, one bag a step, the last epoch scored, nothing "
            "selected. Floor: a linear model of the mean of a bag's pixels. "
            "Attention against nines: mean AUROC within positive bags. The paper shows "
            "this experiment as a figure.\n"
        )


def unit_name(pooling: str, size: float, num: int, seed: int) -> str:
    """A file's stem."""
    return f"{pooling}-{size:g}-{num}-{seed}"


def _test_auroc(unit: UnitResult) -> float:
    return auroc(unit.predictions.probabilities, unit.predictions.target)


def _attention(unit: UnitResult) -> float:
    return unit.extras["attention_auroc"]


def _gains(tested: Mapping[str, _Row]) -> dict[str, _Row]:
    """What the first pooling gains on each other one, of the seeds that both have."""
    if _FIRST not in tested:
        return {}
    found: dict[str, _Row] = {}
    for name, row in tested.items():
        if name == _FIRST:
            continue
        found[f"on {name}"] = [
            {seed: first[seed] - other[seed] for seed in first if seed in other}
            for first, other in zip(tested[_FIRST], row, strict=True)
        ]
    return found


def _cell(values: Collection[float], wanted: int) -> str:
    if not values:
        return ""
    found = list(values)
    note = "" if len(found) == wanted else f" [{len(found)}]"
    mean, spread = float(np.mean(found)), ""
    if found[1:]:
        error = float(np.std(found, ddof=1)) / len(found) ** 0.5
        ends = t.interval(0.95, len(found) - 1, mean, error)
        spread = f" ({' to '.join(_study.short(float(end)) for end in ends)})"
    return f"{_study.short(mean)}{spread}{note}"
