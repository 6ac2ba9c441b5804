"""Single predictions: the most wrong, and where the model looks on some slides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.prediction.table import PredictedBags
from mshisto_ray.reporting.page.blocks import Block, Figure, Figures, Table, Text
from mshisto_ray.reporting.page.images import photograph
from mshisto_ray.store.file_names import file_name

_WRONG_ROWS = 12


@dataclass(frozen=True)
class Looks:
    """Where the pictures of a prediction are.

    ``folder``: of the heat maps; ``slides``: of each bag; ``most``: bags to show;
    ``classes``: of the head.
    """

    folder: Path
    slides: Mapping[str, Sequence[str]]
    classes: Sequence[str]
    most: int = 8

    def pictures(self, bag: str) -> list[tuple[str, Path]]:
        """Slide and file of the first layer that was drawn, then its tiles.

        Of a bag of several slides the first that was drawn.
        """
        layers = ["attention", *(f"attention_{n}" for n in self.classes[::-1])]
        layers += [f"instance_{name}" for name in self.classes[::-1]]
        for slide_id in self.slides.get(bag, ()):
            stem = file_name(slide_id)
            for layer in layers:
                found = self.folder / f"{stem}.{file_name(layer)}.png"
                if found.is_file():
                    tiles = self.folder / f"{stem}.tiles.png"
                    rest = [(slide_id, tiles)] if tiles.is_file() else []
                    return [(slide_id, found), *rest]
        return []


def wrong_blocks(bags: PredictedBags, noun: str = "bag") -> list[Block]:
    """The wrong predictions, those with the highest probability first.

    ``noun``: what a row is.
    """
    wrong = _sorted(bags, lambda i: bags.targets[i] not in (None, bags.predicted[i]))
    known = sum(target is not None for target in bags.targets)
    if not known:
        return [Text(f"No {noun} has a label, so none is known to be wrong.", "note")]
    said = f"{len(wrong)} of {known} labelled {noun}s are predicted wrongly."
    if not wrong:
        return [Text(said)]
    header = [noun, "patient", "label", "predicted", "p(predicted)", "p(label)"]
    return [
        Text(f"{said} The most confident ones, which are worth a look at the slide:"),
        Table(
            header,
            [_wrong_row(bags, index) for index in wrong[:_WRONG_ROWS]],
            text_columns=range(4),
        ),
    ]


def _wrong_row(bags: PredictedBags, index: int) -> list[str]:
    label, row = str(bags.targets[index]), bags.probabilities[index]
    return [
        bags.names[index],
        bags.patient_ids[index],
        label,
        bags.predicted[index],
        f"{row.max():.3f}",
        f"{row[bags.classes.index(label)]:.3f}",
    ]


def look_blocks(bags: PredictedBags, looks: Looks) -> list[Block]:
    """Heat maps and galleries: confident and right, confident and wrong.

    Of bags without a label the most confident of each class.
    """
    predicted, half = bags.predicted, looks.most // 2
    drawn = [bool(looks.pictures(name)) for name in bags.names]

    def among(wanted: Callable[[int], bool]) -> list[int]:
        return _sorted(bags, lambda i: drawn[i] and wanted(i))

    wrong = among(lambda i: bags.targets[i] not in (None, predicted[i]))[:half]
    groups = {
        "Right": _in_turn(among(lambda i: bags.targets[i] == predicted[i]), predicted),
        "Wrong": wrong,
    }
    groups["Right"] = groups["Right"][: looks.most - len(wrong)]
    left = looks.most - len(groups["Right"]) - len(wrong)
    unknown = among(lambda i: bags.targets[i] is None)
    groups["Without a label"] = _in_turn(unknown, predicted)[:left]
    blocks: list[Block] = [
        block
        for name, group in groups.items()
        for index in group
        for block in _case(bags, index, looks, name)
    ]
    none = "No heat maps: none was drawn, or the pooling gives single tiles no score."
    return [Text(_HOW_TO_READ), *blocks] if blocks else [Text(none, "note")]


_HOW_TO_READ = (
    "Slides that are predicted right with the highest probability, of each class in "
    "turn, then those that are predicted wrong with the highest. "
    "Left the slide, right the same with its tiles coloured; below them the tiles that "
    "count most and least. Colours say where the model looks. They do not say that it "
    "is right, or why."
)


def _case(bags: PredictedBags, index: int, looks: Looks, heading: str) -> list[Block]:
    name, row = bags.names[index], bags.probabilities[index]
    target = bags.targets[index]
    label = "no label" if target is None else f"label {target}"
    said = f"predicted {bags.predicted[index]} with p = {row.max():.3f}, {label}"
    figures = [
        Figure(photograph(path, 1600), f"{slide_id}: {said} ({path.stem})")
        for slide_id, path in looks.pictures(name)
    ]
    return [Figures(figures, 1, f"{heading}: {name}, {said}")]


def _sorted(bags: PredictedBags, wanted: Callable[[int], bool]) -> list[int]:
    """Bags by the probability of what they are taken for, the highest first."""
    order = np.argsort(-bags.probabilities.max(1), kind="stable")
    return [i for i in order.tolist() if wanted(i)]


def _in_turn(indices: Sequence[int], predicted: Sequence[str]) -> list[int]:
    """One of each class, then the next of each: not all of one class."""
    seen: dict[str, int] = {}
    turns = []
    for index in indices:
        seen[predicted[index]] = turn = seen.get(predicted[index], -1) + 1
        turns.append(turn)
    order = np.argsort(turns, kind="stable")
    return [indices[i] for i in order]
