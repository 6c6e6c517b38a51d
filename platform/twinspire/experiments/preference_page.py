"""The page of an interleaved experiment: what to do, what shoppers prefer, how that became known, and who does."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from twinspire.evaluation.figures import style
from twinspire.experiments.layout import Pictures, document, in_plain_words
from twinspire.experiments.page import TONES
from twinspire.experiments.pictures import BETTER, GRID, OPEN, WORSE, ZERO, Curve, band, styled, ticks, whisker
from twinspire.experiments.preference import UNFAIR

if TYPE_CHECKING:
    from twinspire.experiments.preference import Preference, Shares

WORDS = TONES | {"ship": ("good", "Preferred"), "stop": ("bad", "Not preferred")}
METHODS = (
    "Team-draft interleaving (Radlinski, Kurup and Joachims, 2008); a unit counts once, by the sign of its clicked "
    "items of one arm less those of the other. Ranges are asymptotic confidence sequences (Waudby-Smith et al., 2021) "
    "of a share, Holm-corrected within the slices. One look is the exact binomial test."
)


def render(found: Preference) -> str:
    """The page; plotly's own script (5 MB) is in it, once."""
    drawn = Pictures()
    second = found.arms[1]
    fair = drawn.section("Was the draft fair?", _fair(found))
    sections = [
        drawn.section(f"What {found.unit}s prefer", _counts(found), _bar(found)),
        _known(found, drawn),
        drawn.section(
            "Who prefers what",
            f"How many prefer {second}, by part of the searches. Ranges are wider here: several rows are looked at, "
            "and one would stand out by luck, so more proof is asked of each.",
            _slices(found),
        ),
    ]
    ordered = [*sections, fair] if found.draft.trusted else [fair, *sections]
    return document(found, *WORDS[found.verdict.kind], [*ordered, _glossary(found)])


def _known(found: Preference, drawn: Pictures) -> str:
    first, second = found.arms
    drawing = _over_time(found)
    told = (
        f"The line is {second}'s share of the {found.unit}s who prefer one arm; the band is what it may truly be. A "
        f"band wholly above one half prefers {second}, below it {first}, on whatever day you look."
    )
    few = "After a second look there is a picture here."
    return drawn.section("How the preference became known", told if drawing else few, drawing)


def _counts(found: Preference) -> str:
    nothing = found.units - found.decided - found.ties
    return (
        f"Answers held items of both arms. {found.decided:,} {found.unit}s clicked more items of one, {found.ties:,} "
        f"as many of each, {nothing:,} none. Only those who clicked more of one can tell the arms apart."
    )


def _bar(found: Preference) -> go.Figure:
    first, second = found.arms
    parts = [
        (f"{first} preferred", found.first, style.colour(0), "white"),
        ("alike", found.ties, GRID, "#4b5563"),
        (f"{second} preferred", found.second, style.colour(1), "white"),
    ]
    figure = go.Figure()
    for name, count, colour, ink in parts:
        figure.add_bar(
            x=[count], y=[""], orientation="h", name=name, marker_color=colour, text=[f"{count:,}"],
            textposition="inside", insidetextanchor="middle", textfont={"color": ink, "size": 14},
            hovertemplate=f"{name}: %{{x:,}} {found.unit}s<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(visible=False, range=[0, max(found.decided + found.ties, 1)])
    return styled(figure, 150)


def _over_time(found: Preference) -> go.Figure | None:
    """None where there is no band to draw yet."""
    known = [one for one in found.curve if one.share is not None]
    if len(known) < 2:
        return None
    figure = go.Figure()
    values = np.array([(one.share, one.low, one.high) for one in known], np.float64)
    band(figure, Curve([one.time for one in known], *values.T), _tone(found), {}, centre=0.5, sign="")
    figure.add_hline(y=50, line_color=ZERO, line_width=1.5)
    figure.update_yaxes(ticksuffix=" %", gridcolor=GRID, zeroline=False)
    figure.update_xaxes(showgrid=False, tickformat=ticks(found))
    return styled(figure, 320)


def _slices(found: Preference) -> go.Figure:
    figure = go.Figure()
    rows: list[tuple[str, Shares]] = [("everyone", found), *((one.name, one) for one in found.slices)]
    ends = [0.05]
    for name, one in rows:
        interval = None
        if one.share is not None and one.low is not None and one.high is not None:
            interval = one.share, one.low, one.high
            ends += [abs(end - 0.5) for end in interval]
        whisker(figure, name, interval, _tone(one), {}, clear=one.clear, units=one.decided, centre=0.5, sign="")
    figure.add_vline(x=50, line_color=ZERO, line_width=1.5)
    reach = 110 * max(ends)
    figure.update_xaxes(range=[50 - reach, 50 + reach], ticksuffix=" %", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(categoryorder="array", categoryarray=[name for name, _ in rows][::-1], gridcolor=GRID)
    return styled(figure, 90 + 44 * len(rows))


def _fair(found: Preference) -> str:
    led = found.draft.led
    if not sum(led):
        return "No answer held items of both arms yet."
    told = ", ".join(f"{arm} {count:,} ({count / sum(led):.2%})" for arm, count in zip(found.arms, led, strict=True))
    chance = (
        "less often than once in 1,000 fair drafts"
        if found.draft.p < UNFAIR
        else f"in {found.draft.p:.0%} of fair drafts"
    )
    return (
        f"{'Yes' if found.draft.trusted else 'No'}: of the answers that both arms drafted, each should come first in "
        f"half; first came {told}. Chance alone is this far off {chance}. An answer that a {found.unit} asks for again "
        "is drafted alike, and counts once."
    )


def _tone(one: Shares) -> str:
    return OPEN if not one.clear or one.share is None else BETTER if one.share > 0.5 else WORSE


def _glossary(found: Preference) -> str:
    first, second = found.arms
    unit = found.unit
    terms = {
        "Prefers": f"a {unit} prefers the arm of which it clicked more items; a cart or a purchase counts as a click.",
        "One half": f"{first} and {second} are liked alike.",
        "Clear": (
            "the range leaves out one half, after allowing for every look and for the number of parts looked at. Where "
            "arms are liked alike, at most 1 experiment in 20 says so."
        ),
        "Long-tail queries": (
            "the rarest queries, which make up a third of all searches; head queries are the commonest third, torso "
            "those between."
        ),
    }
    rows = [("everyone", found, found.p_once), *((one.name, one, None) for one in found.slices)]
    table = "".join(
        f"<tr><td>{name}</td><td>{one.first:,}</td><td>{one.ties:,}</td><td>{one.second:,}</td>"
        f"<td>{'–' if one.share is None else f'{one.share:.1%}'}</td><td>{_number(one.p)}</td>"
        f"<td>{_number(once)}</td></tr>"
        for name, one, once in rows
    )
    return in_plain_words(
        terms,
        METHODS,
        f"<table><thead><tr><th></th><th>{html.escape(first)}</th><th>alike</th><th>{html.escape(second)}</th>"
        "<th>share</th><th>p, always valid</th><th>p, one look</th></tr></thead>"
        f"<tbody>{table}</tbody></table>",
    )


def _number(p: float | None) -> str:
    return "–" if p is None else f"{p:.3g}"
