"""The page that lists the recipes; ``python tests/encoders/test_table.py`` makes it."""

from pathlib import Path

from mshisto_ray.encoders._recipe import RECIPES, names, read_recipe

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
HEAD = """\
# Recipes of encoders

Published networks that `encoder='{name: NAME, weights: FILE_OR_DIR}'` takes; nothing is
downloaded unless `weights: pretrained`. `mpp`: scales that it was trained at or that
its authors recommend, um/px. An asterisk: no source confirms a part of the recipe,
which the job then warns of; that and what two sources say otherwise is in
`mshisto_ray/encoders/recipes/NAME.yaml`. Of the weights themselves only those of
`gleason_mobilenet` were at hand: the others were built without them and compared in
width, number of parameters, names and shapes.

| name | network | px | taken | width | mpp | licence | weights |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table():
    lines = []
    for name in names():
        held = read_recipe(RECIPES / f"{name}.yaml")
        cells = [
            f"`{name}`" + "\\*" * bool(held.unconfirmed),
            held.title,
            held.input.size,
            held.take.replace("_", " "),
            held.width,
            ", ".join(f"{mpp:g}" for mpp in held.mpp),
            held.conditions(),
            f"[{held.weights.hub or 'page'}]({held.weights.address})",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |\n")
    return HEAD + "".join(lines)


def test_the_page_lists_every_recipe_as_it_is():
    assert PAGE.read_text() == table(), (
        "write it with python tests/encoders/test_table.py"
    )


if __name__ == "__main__":
    PAGE.write_text(table())
