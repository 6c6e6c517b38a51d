"""A page of interactive pictures: one file that needs no network."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import plotly.graph_objects as go

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2rem auto; padding: 0 1rem }}
  h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.15rem; margin: 2.5rem 0 0 }} p {{ color: #555; margin: .2rem 0 .6rem }}
</style></head><body>
<h1>{title}</h1>
"""


@dataclass(frozen=True)
class Part:
    """One picture of the page: its finding, how to read it, and the picture."""

    title: str
    detail: str
    figure: go.Figure


def write_page(path: Path, title: str, parts: Sequence[Part]) -> Path:
    """Write the page; plotly's own script (5 MB) is in it, once."""
    text = [_HEAD.format(title=html.escape(title))]
    for number, part in enumerate(parts):
        text.append(f"<h2>{html.escape(part.title)}</h2>\n<p>{html.escape(part.detail)}</p>\n")
        text.append(
            part.figure.to_html(
                full_html=False,
                include_plotlyjs=number == 0,
                div_id=f"picture-{number + 1}",
                config={"displaylogo": False, "responsive": True},
            )
        )
    text.append("</body></html>\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(text), encoding="utf-8")
    return path
