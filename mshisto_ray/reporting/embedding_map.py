"""Embeddings on a plane, coloured by class (UMAP; needs the extra ``plots``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.labelled_tiles import UNANNOTATED, LabelledTiles
from mshisto_ray.store.shards import write_shard

_POINTS = 20_000
_GREY = (0.75, 0.75, 0.75)
_TWO_COLUMNS = 20  # most letters of a class, where the legend has two


def check_installed() -> None:
    """Raise InputError if UMAP is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise InputError(
            "embedding_map: UMAP is not installed: pip install 'mshisto-ray[plots]', "
            "or leave embedding_map=false"
        )


def draw_embedding_map(
    path: Path,
    title: str,
    values: np.ndarray,
    labelled: LabelledTiles,
    normalise: bool,
    seed: int,
) -> None:
    """Write ``path`` (PNG) and the points beside it (Parquet).

    The same 20,000 rows at most are drawn for every encoder. Distances on the map,
    and sizes of groups, mean little: it shows which tiles are near each other.

    Args:
        path: picture to write.
        title: above it.
        values: embeddings [N, D].
        labelled: their tiles.
        normalise: by angle, else by Euclidean distance.
        seed: of the rows and of the map.

    Source: McInnes, Healy and Melville 2018, UMAP.
    """
    rows = _some(len(values), seed)
    metric = "cosine" if normalise else "euclidean"
    points = _on_a_plane(values[rows], metric, seed)
    slide_id, mpp, row, col = labelled.tiles.select(rows).identity()
    names = np.array(labelled.classes)[labelled.label[rows]]
    columns = {"slide_id": slide_id.astype(str), "mpp": mpp, "row": row, "col": col}
    columns |= {"class": names, "u": points[:, 0], "v": points[:, 1]}
    write_shard(path.with_suffix(".parquet"), [pa.table(columns)])
    _plot(path, title, points, names, labelled.classes)


def draw_map(
    path: Path,
    title: str,
    values: np.ndarray,
    names: np.ndarray,
    classes: tuple[str, ...],
    seed: int = 0,
) -> None:
    """As ``draw_embedding_map``, of rows by angle; the picture alone.

    ``values``: [N, D]; ``names``: class of each [N].
    """
    rows = _some(len(values), seed)
    points = _on_a_plane(values[rows], "cosine", seed)
    _plot(path, title, points, names[rows], classes)


def _some(num: int, seed: int) -> np.ndarray:
    """Rows to draw, sorted."""
    if num <= _POINTS:
        return np.arange(num)
    chosen = np.random.default_rng(seed).choice(np.arange(num), _POINTS, replace=False)
    return np.sort(chosen)


def _on_a_plane(values: np.ndarray, metric: str, seed: int) -> np.ndarray:
    import umap  # pyright: ignore[reportMissingImports]

    reducer = umap.UMAP(metric=metric, random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(values.astype(np.float32)))


def _plot(
    path: Path,
    title: str,
    points: np.ndarray,
    names: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    # Small, so that its letters can be read where pages show three side by side.
    columns = 2 if max(map(len, classes)) <= _TWO_COLUMNS else 1
    lines = -(-len(classes) // columns)
    figure = Figure(figsize=(4.5, 4.2 + 0.25 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = iter(matplotlib.colormaps["tab10"].colors * len(classes))  # pyright: ignore[reportAttributeAccessIssue]
    size = float(np.clip(200 / np.sqrt(len(points)), 0.8, 5))
    # The unannotated lie below; small classes on top of large ones.
    order = sorted(classes, key=lambda c: (c != UNANNOTATED, -(names == c).sum()))
    for name in order:
        own = points[names == name]
        colour = _GREY if name == UNANNOTATED else next(colours)
        label = f"{name} ({len(own):,})"
        axes.scatter(own[:, 0], own[:, 1], s=size**2, color=colour, label=label, lw=0)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    # Below the axes: points may lie anywhere within them.
    scale = max(1.0, 6 / size)
    place = "outside lower center"
    figure.legend(markerscale=scale, fontsize=9, loc=place, ncols=columns)
    figure.savefig(path, dpi=180)
