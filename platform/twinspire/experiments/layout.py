"""What the pages of reports share: the frame, the sentence at the top, pictures in sections, words explained."""

from __future__ import annotations

import html
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import plotly.graph_objects as go

    from twinspire.experiments.report import Facts


def document(report: Facts, tone: str, word: str, body: Iterable[str]) -> str:
    """A page that needs no network; what to do comes first. `tone` is good, bad or wait, `word` the verdict's."""
    style = resources.files("twinspire.experiments").joinpath("page.css").read_text(encoding="utf-8")
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(report.experiment)}: {word}</title>\n"
            f"<style>\n{style}</style></head><body><main>\n",
            _header(report, tone, word),
            *body,
            "</main></body></html>\n",
        ]
    )


def _header(report: Facts, tone: str, word: str) -> str:
    head, _, rest = report.verdict.sentence.partition(":")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.verdict.notes)
    until = f"{report.until:%-d %B %Y}"
    lasting = f"{report.since:%-d %B} to {until}" if report.since.date() != report.until.date() else until
    facts = [
        (f"{report.units:,}", f"{report.unit}s"),
        (f"{report.searches:,}", "searches"),
        (lasting, f"{report.status}" + (f", ends {report.end:%-d %B}" if report.end else "")),
    ]
    tiles = "".join(f"<div><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>" for big, small in facts)
    return (
        f'<header><p class="eyebrow">Experiment</p><h1>{html.escape(report.experiment)}</h1>'
        f'<div class="tiles">{tiles}</div></header>\n'
        f'<section class="verdict {tone}"><p class="word">{html.escape(word)}</p>'
        f'<p class="sentence"><b>{html.escape(head)}:</b>{html.escape(rest)}</p>'
        f"{f'<ul>{notes}</ul>' if notes else ''}</section>\n"
    )


class Pictures:
    """Sections with a picture each; the first brings plotly's script along."""

    def __init__(self) -> None:
        self.count = 0

    def section(self, title: str, detail: str, figure: go.Figure | None = None) -> str:
        """A heading, what to see, and the picture where there is one."""
        text = f"<h2>{html.escape(title)}</h2><p>{html.escape(detail)}</p>"
        if figure is None:
            return f"<section>{text}</section>\n"
        self.count += 1
        picture = figure.to_html(
            full_html=False,
            include_plotlyjs=self.count == 1,
            div_id=f"picture-{self.count}",
            config={"displaylogo": False, "responsive": True, "displayModeBar": False},
        )
        return f"<section>{text}{picture}</section>\n"


def in_plain_words(terms: Mapping[str, str], methods: str, table: str) -> str:
    """What the words mean, and for statisticians the methods and a table, folded away."""
    rows = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in terms.items())
    return (
        f"<section><h2>In plain words</h2><dl>{rows}</dl><details><summary>For statisticians</summary>"
        f"<p>{html.escape(methods)}</p>{table}</details></section>\n"
    )
