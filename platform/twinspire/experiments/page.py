"""The report as one HTML page that needs no network: what to do, the figures, the pictures, how to read them."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from twinspire.experiments import pictures
from twinspire.experiments.layout import Pictures, document, in_plain_words
from twinspire.experiments.verdict import percent

if TYPE_CHECKING:
    from twinspire.experiments.report import Comparison, Report

TONES = {
    "ship": ("good", "Ship"),
    "weigh": ("wait", "Weigh it up"),
    "stop": ("bad", "Stop"),
    "guardrail": ("bad", "Stop"),
    "distrust": ("bad", "Do not trust"),
    "keep_running": ("wait", "Keep running"),
    "no_winner": ("wait", "No winner"),
    "too_early": ("wait", "Too early"),
}
METHODS = (
    "Ranges above are asymptotic confidence sequences (Waudby-Smith et al., 2021) of the logarithm of the ratio, by "
    "the delta method, adjusted by CUPED; p-values are always valid and Holm-corrected within the other metrics and "
    "within the slices. Below are the 95 % intervals for one look at a time fixed beforehand; money by a symmetric "
    "bootstrap-t."
)


def render(report: Report) -> str:
    """The page; plotly's own script (5 MB) is in it, once."""
    drawn = Pictures()
    alarm = {"distrust": [_ratio], "guardrail": [_guards]}.get(report.verdict.kind, [])
    usual = [_arms, _who_gains, _guards, _ratio]
    sections = [section(report, drawn) for section in [*alarm, *(one for one in usual if one not in alarm)]]
    return document(report, *TONES[report.verdict.kind], [*sections, _glossary(report)])


def _arms(report: Report, drawn: Pictures) -> str:
    return "".join(_metrics(report, arm) + _over_time(report, arm, drawn) for arm in report.treatments)


def _over_time(report: Report, arm: str, drawn: Pictures) -> str:
    drawing = pictures.over_time(report, arm)
    told = (
        "The line is the difference to the control so far; the band is what it may truly be. A band wholly on one side "
        "of zero is a clear difference, on whatever day you look."
    )
    title = f"How the difference became known{_of(report, arm)}"
    return drawn.section(title, told if drawing else "Too few to compare so far.", drawing)


def _who_gains(report: Report, drawn: Pictures) -> str:
    return "".join(
        drawn.section(
            f"Who gains{_of(report, arm)}",
            "Each row is a part of the searches or shoppers. Ranges are wider here: many rows are looked at, and a few "
            "would stand out by luck, so more proof is asked of each.",
            pictures.slices(report, arm),
        )
        for arm in report.treatments
    )


def _guards(report: Report, drawn: Pictures) -> str:
    return drawn.section("Limits", _limits(report), pictures.guardrails(report)) if report.guards else ""


def _ratio(report: Report, drawn: Pictures) -> str:
    return drawn.section("Was the split fair?", _fair(report), pictures.sample_ratio(report))


def _metrics(report: Report, arm: str) -> str:
    rows = "".join(_row(report, one) for one in report.comparisons if one.arm == arm)
    explained = [one.explained for one in report.comparisons if one.arm == arm and one.explained]
    past = (
        f" What {report.unit}s did before the experiment was taken into account, which took up to "
        f"{max(explained):.0%} off the uncertainty."
        if explained and max(explained) >= 0.01
        else ""
    )
    return (
        f"<section><h2>{html.escape(arm)} against the control</h2>"
        f'<div class="scroll"><table><thead><tr><th>Metric</th><th>Control</th><th>{html.escape(arm)}</th>'
        f"<th>Change</th><th>May truly be</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="small">The range holds the truth in 19 of 20 experiments, however often you look.{past}</p>'
        "</section>\n"
    )


def _row(report: Report, one: Comparison) -> str:
    form = report.forms[one.metric]
    word, tone = saying(one)
    main = one.metric == report.primary
    gloss = report.glossary[one.title]
    span = "" if one.low is None else f"{percent(one.low)} to {percent(one.high)}"
    return (
        f"<tr{' class=main' if main else ''}><td><b>{html.escape(one.title)}</b>"
        f"{' <em>decides</em>' if main else ''}<small>{html.escape(gloss)}</small></td>"
        f"<td>{value(one.control, form)}</td><td>{value(one.treatment, form)}</td>"
        f'<td class="{tone}"><b>{percent(one.lift) if one.lift is not None else "–"}</b></td>'
        f'<td>{span}</td><td><span class="chip {tone}">{word}</span></td></tr>'
    )


def saying(one: Comparison) -> tuple[str, str]:
    """What a comparison says, in a word, and the tone of it."""
    if one.lift is None:
        return "too few", "open"
    if not one.clear:
        return "not clear", "open"
    return ("better", "good") if one.better else ("worse", "bad")


def value(number: float | None, form: str) -> str:
    """A metric's value for a reader."""
    if number is None:
        return "–"
    return (
        f"{number:.2%}"
        if form == "share"
        else f"{number:,.2f}"
        if form == "money" or number < 100
        else f"{number:,.0f}"
    )


def _limits(report: Report) -> str:
    broken = [guard for guard in report.guards if guard.broken]
    told = (
        "; ".join(f"{one.arm} is above a limit: {one.title} (certain since {one.since:%-d %B %H:%M})" for one in broken)
        if broken
        else "All arms keep within their limits"
    )
    p99 = [f"{guard.value:,.0f} ms ({guard.arm})" for guard in report.guards if guard.value is not None]
    slow = f" 99 in 100 answers come within {', '.join(p99)}; the limit allows 1 in 100 to be slower." if p99 else ""
    return f"{told}.{slow} An arm is stopped once it is certain to be above the dashed line."


def _fair(report: Report) -> str:
    told = ", ".join(
        f"{arm.name} {arm.units:,} ({arm.observed:.2%}, planned {arm.expected:.2%})" for arm in report.ratio.arms
    )
    chance = (
        "less often than once in 1,000 fair splits"
        if report.ratio.p < 0.001
        else f"in {report.ratio.p:.0%} of fair splits"
    )
    word = "Yes" if report.ratio.trusted else "No"
    return (
        f"{word}: {told}. Chance alone is this far off {chance}. Where lines leave the grey band, {report.unit}s are "
        "lost or counted twice, and no figure above can be trusted."
    )


def _glossary(report: Report) -> str:
    terms = {
        **{title: f"{gloss}." for title, gloss in report.glossary.items()},
        "Control": "the arm as it was, against which the others are compared.",
        "Change": (
            "treatment over control, less 100 %. Where shoppers' past is taken into account it differs a little from "
            "the two columns before it."
        ),
        "Clear": (
            "the range leaves out zero, after allowing for every look and for the number of comparisons made. With no "
            "true difference, at most 1 experiment in 20 says so."
        ),
        "Long-tail queries": (
            "the rarest queries, which make up a third of all searches; head queries are the commonest third, torso "
            "those between."
        ),
        f"New {report.unit}s": f"{report.unit}s who did nothing here in the two weeks before.",
    }
    once = "".join(
        f"<tr><td>{html.escape(one.title)}, {html.escape(one.arm)}</td><td>{percent(one.once.low)} to "
        f"{percent(one.once.high)}</td><td>{one.once.p:.3g}</td><td>{one.p:.3g}</td><td>{one.once.method}</td></tr>"
        for one in report.comparisons
        if one.once is not None
    )
    return in_plain_words(
        terms,
        METHODS,
        "<table><thead><tr><th></th><th>one look, 95 %</th><th>p, one look</th><th>p, always valid</th><th>by</th></tr>"
        f"</thead><tbody>{once}</tbody></table>",
    )


def _of(report: Report, arm: str) -> str:
    return f": {arm}" if len(report.treatments) > 1 else ""
