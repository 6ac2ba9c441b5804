"""A page as HTML, and the file that holds it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from mshisto_ray.reporting.page.blocks import Page

_FOLDER = Path(__file__).parent
_MADE_FROM = re.compile(r'<meta name="made-from" content="([^"]*)">')
_HEAD_BYTES = 1000


def render(page: Page, made_from: str = "") -> str:
    """The page as HTML; every text of it is escaped.

    Args:
        page: its content.
        made_from: digest of what it was made from, kept in the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    style = Markup((_FOLDER / "style.css").read_text())
    template = environment.get_template("page.html")
    return template.render(page=page, made_from=made_from, style=style)


def read_made_from(path: Path) -> str | None:
    """The digest that a page was made from; None: no page, or another file."""
    try:
        with path.open(encoding="utf-8") as file:
            found = _MADE_FROM.search(file.read(_HEAD_BYTES))
    except (OSError, UnicodeDecodeError):
        return None
    return html.unescape(found[1]) if found else None
