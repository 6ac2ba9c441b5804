"""What --check prints: comments below the config's YAML; sizes and times in words."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

from mshisto_ray.progress import say
from mshisto_ray.runtime import Resources

T = TypeVar("T")


def note(line: str = "") -> None:
    """Print a line as a comment: what --check prints remains a config's YAML."""
    say(f"# {line}".rstrip())


def duration(seconds: float) -> str:
    """Seconds as a text of two digits: 40 s, 12 min, 3.4 h, 2.5 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            digits = ".2g" if seconds < 100 * size else ",.0f"
            return f"{seconds / size:{digits}} {unit}"
    return f"{max(1, round(seconds))} s"


def milliseconds(seconds: float) -> str:
    """Seconds as a text of two digits: 0.45 ms, 140 ms."""
    value = 1000 * seconds
    return f"{value:.2g} ms" if value < 100 else f"{rounded(value)} ms"


def size(num_bytes: float) -> str:
    """Bytes as a text of two digits: 40 MB, 1.2 GB, 3.4 TB (powers of 1,000)."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.3g} {unit}"
    return "under 1 MB"


def rounded(count: float) -> str:
    """A count to two digits: 1,234,567 as 1,200,000."""
    if count < 100:
        return f"{count:.0f}"
    digits = math.floor(math.log10(count)) - 1
    return f"{round(count / 10**digits) * 10**digits:,}"


def workers_here(resources: Resources) -> int:
    """Number of workers: ``runtime.actors``, or as many as fit this machine's cores."""
    if resources.actors:
        return resources.actors
    return max(1, math.floor((os.cpu_count() or 1) / (resources.cpus or 1)))


def hint(resources: Resources) -> str:
    """How to estimate the time on a cluster; empty if the config names the workers."""
    return "" if resources.actors else "; of a cluster: give runtime.actors"


def spread(ordered: Sequence[T], num: int) -> list[T]:
    """At most ``num`` items from the middles of as many equal parts of a sequence."""
    num = min(num, len(ordered))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * num)] for i in range(num)]
