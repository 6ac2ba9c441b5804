"""What a page is made of. All texts are plain: the page escapes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Text:
    """A paragraph; a ``note`` is small, a ``warning`` has a red frame."""

    text: str
    look: Literal["plain", "note", "warning"] = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Items:
    """Lines of a list, below a heading if there is one."""

    lines: Sequence[str]
    heading: str = ""
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    rows: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """``marked``: highlighted rows; ``text_columns``: those not of numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    heading: str = ""
    caption: str = ""
    marked: Collection[int] = ()
    text_columns: Collection[int] = (0,)
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A picture inside the page: ``source`` is its data URI."""

    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Pictures beside each other: ``columns`` of them, fewer on a narrow screen."""

    figures: Sequence[Figure]
    columns: Literal[1, 2, 3] = 1
    heading: str = ""
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Code:
    """Commands, a line each."""

    lines: Sequence[str]
    kind: ClassVar[str] = "code"


Block = Text | Items | Facts | Table | Figures | Code


@dataclass(frozen=True)
class Section:
    """A part of the page; ``name`` is unique in it and without spaces."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """``lead``: the line below the title.

    ``answers``: the results in short, as (what, value, more); ``alarms``: what nobody
    may overlook.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    answers: Sequence[tuple[str, str, str]] = ()
    alarms: Sequence[str] = ()
