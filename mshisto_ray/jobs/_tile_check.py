"""``tile --check``: every slide's header, and what tiling the cohort will take."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.embedding.probe import ReadSample, read_some
from mshisto_ray.embedding.reading import SlideSource
from mshisto_ray.jobs._coverage import coverage_by_scale, coverage_notes
from mshisto_ray.jobs._estimate import (
    duration,
    hint,
    milliseconds,
    note,
    rounded,
    size,
    spread,
    workers_here,
)
from mshisto_ray.runtime import Resources
from mshisto_ray.slides import SlideError, in_threads
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.header import SlideHeader, read_header
from mshisto_ray.tiling.probe import TilingProbe, probe_tiling
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.record import readings_of

_MOST_LINES = 50
_PROBED_SLIDES = 4
# No further slide is probed after so long; one that takes longer is left out.
_PROBING_S, _PROBE_LIMIT_S = 60.0, 300.0
_READ_TILES = 64
_VECTOR_BYTES = 2  # of float16


@dataclass(frozen=True)
class Checked:
    """A slide of the cohort and what its header says."""

    row: CohortSlide
    header: SlideHeader

    @property
    def state(self) -> str:
        """Whether the slide is ``ok``, has a ``warning`` or is ``refused``."""
        if self.header.refused:
            return "refused"
        return "warning" if self.header.warnings or self.header.lacking else "ok"

    @property
    def remarks(self) -> str:
        """Why it is refused or warned of, in a line."""
        lacking = ", ".join(f"{scale:g}" for scale in self.header.lacking)
        lacks = [f"lacks the scales {lacking} um/px"] if lacking else []
        refused = [self.header.refused] if self.header.refused else lacks
        return "; ".join([*refused, *self.header.warnings])


def check_slides(rows: Sequence[CohortSlide], recipe: TilingRecipe) -> list[Checked]:
    """Open every slide's header in threads of this process."""
    found = in_threads(functools.partial(read_header, recipe=recipe), rows)
    return [
        Checked(row, _refused(one) if isinstance(one, SlideError) else one)
        for row, one in zip(rows, found, strict=True)
    ]


def _refused(error: SlideError) -> SlideHeader:
    return SlideHeader(refused=f"{error.name}: {error}")


def print_slides(checked: Sequence[Checked], recipe: TilingRecipe) -> None:
    """A line a slide, of many only those with a remark; then the counts."""
    shown = [c for c in checked if len(checked) <= _MOST_LINES or c.state != "ok"]
    lines = [("slide", "patient", "", "um/px", "remark")]
    lines += [_line(one) for one in shown[:_MOST_LINES]]
    widths = [min(40, max(len(line[i]) for line in lines)) for i in range(4)]
    note()
    for line in lines:
        cells = [cell.ljust(w) for cell, w in zip(line, widths, strict=False)]
        note("  ".join([*cells, line[-1]]))
    if len(shown) > _MOST_LINES:
        note(f"and {len(shown) - _MOST_LINES} more slides with a remark")
    _print_counts(checked, recipe)


def _line(one: Checked) -> tuple[str, str, str, str, str]:
    header = one.header
    mpp = "none" if header.source == "none" else f"? ({header.source})"
    if header.mpp:
        mpp = f"{header.mpp:.4g} ({header.source})"
    return one.row.slide_id, one.row.patient_id, one.state, mpp, one.remarks


def _print_counts(checked: Sequence[Checked], recipe: TilingRecipe) -> None:
    states = Counter(one.state for one in checked)
    patients = len({one.row.patient_id for one in checked})
    usable = {one.row.patient_id for one in checked if one.state != "refused"}
    note()
    note(
        f"{len(checked)} slides of {patients} patients: {states['ok']} ok, "
        f"{states['warning']} with a warning, {states['refused']} refused"
    )
    if len(usable) < patients:
        note(f"patients without a usable slide: {patients - len(usable)}")
    sources = Counter(one.header.source for one in checked)
    note(
        f"um/px of level 0: {sources['file']} from the file, {sources['cohort']} from "
        f"the cohort, {sources['none']} from neither"
    )
    for scale in recipe.scales:
        lacking = sum(
            scale in c.header.lacking for c in checked if c.state != "refused"
        )
        if lacking:
            note(f"of those not refused, too coarse for {scale:g} um/px: {lacking}")
    if states["refused"]:
        note("a run leaves refused slides out and lists them in failures.csv")


def print_estimate(
    checked: Sequence[Checked],
    recipe: TilingRecipe,
    resources: Resources,
    geojson: bool,
) -> list[SlideError]:
    """Tile a few slides, print what all of them take; the errors of these few."""
    usable = [one for one in checked if one.state != "refused"]
    ordered = sorted(usable, key=lambda one: one.header.area_mm2)
    probes: dict[str, TilingProbe] = {}
    areas, errors = {}, []
    started = time.monotonic()
    for one in spread(ordered, _PROBED_SLIDES):
        if time.monotonic() - started > _PROBING_S:
            break
        name = one.row.slide_id
        work = functools.partial(probe_tiling, recipe=recipe, geojson=geojson)
        (found,) = in_threads(work, [one.row], limit_s=_PROBE_LIMIT_S)
        if isinstance(found, SlideError):
            if found.name == "Hung":  # large, on a slow storage, or truly hanging
                note(f"{name}: not tiled within {_PROBE_LIMIT_S:g} s: left out below")
            else:
                errors.append(found)
                note(f"{name}: refused when tiled: {found.name}: {found}")
            continue
        probes[name], areas[name] = found, one.header.area_mm2
    if not probes:
        note("no estimate: none of the slides tried could be tiled")
        return errors
    whole = sum(one.header.area_mm2 for one in usable)
    _print_totals(probes, areas, whole, len(usable), resources)
    _print_reading(probes, areas, whole, recipe)
    coverage = coverage_by_scale(probe.tiled.record for probe in probes.values())
    for line in coverage_notes(coverage, recipe.tissue_threshold):
        note(line)
    return errors


def _print_totals(
    probes: Mapping[str, TilingProbe],
    areas: Mapping[str, float],
    whole: float,
    num_slides: int,
    resources: Resources,
) -> None:
    part = whole / sum(areas.values())
    rates = [sum(p.tiles.values()) / areas[name] for name, p in probes.items()]
    per_scale: Counter[float] = Counter()
    for probe in probes.values():
        per_scale.update(probe.tiles)
    tiles = sum(per_scale.values()) * part
    scales = ", ".join(f"{rounded(n * part)} at {m:g}" for m, n in per_scale.items())
    seconds = sum(probe.seconds for probe in probes.values()) * part
    workers = workers_here(resources)
    num_bytes = sum(probe.num_bytes for probe in probes.values()) * part
    note()
    note(f"expected of all {num_slides} slides, from {len(probes)} tiled for it: "
         f"{', '.join(probes)}")  # fmt: skip
    note(
        f"tiles: {rounded(tiles)}: {scales} um/px (by the least and the most tissue "
        f"of these slides {rounded(min(rates) * whole)} to "
        f"{rounded(max(rates) * whole)})"
    )
    note(
        f"tiling: {duration(seconds / workers)} with {workers} workers "
        f"({duration(seconds)} with one){hint(resources)}; slides that are done "
        "already are not subtracted"
    )
    note(f"on disk: {size(num_bytes)} of tiles and overviews")
    note(
        f"embeddings: {size(tiles * 1000 * _VECTOR_BYTES)} for each 1,000 values of an "
        "encoder, in float16"
    )
    note(
        "rests on: tiles, seconds and bytes per mm2 of these slides' planes, times all "
        f"slides' {whole:,.0f} mm2; other tissue, storage or machines differ"
    )


def _print_reading(
    probes: Mapping[str, TilingProbe],
    areas: Mapping[str, float],
    whole: float,
    recipe: TilingRecipe,
) -> None:
    sources = [
        (_source(probe, recipe), probe.tiled.tiles[len(probe.tiled.tiles) // 2])
        for probe in probes.values()
    ]
    samples = in_threads(
        lambda item: read_some(*item, _READ_TILES), sources, 1, _PROBE_LIMIT_S
    )
    read = [one.seconds for one in samples if isinstance(one, ReadSample)]
    if not read:
        return
    tiles = sum(sum(p.tiles.values()) for p in probes.values()) / sum(areas.values())
    total = tiles * whole * sum(read) / len(read)
    note(
        f"to embed: reading takes {duration(total)} with one worker "
        f"({milliseconds(sum(read) / len(read))} a tile, {_READ_TILES} tiles a slide "
        "timed); for the encoder's time: mshisto embed --check, once tiled"
    )


def _source(probe: TilingProbe, recipe: TilingRecipe) -> SlideSource:
    record = probe.tiled.record
    return SlideSource(
        path=Path(record["path"]),
        reader=record["reader"],
        readings=readings_of(record),
        tile_px=recipe.tile_px,
    )
