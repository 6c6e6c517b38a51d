"""A comparison as one page that needs no network and no script: verdict, gates, figures by slice, changed results."""

from __future__ import annotations

import html
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twinspire.evaluation.bootstrap import Estimate
    from twinspire.evaluation.changes import Change, Shown
    from twinspire.evaluation.comparison import Comparison, Side
    from twinspire.evaluation.report import Section
    from twinspire.registry.gates import Gate

BETTER, WORSE, UNSURE = "#0072b2", "#d55e00", "#8a8a8a"  # Okabe and Ito, 2008: told apart by colour-blind readers too
FIRST_METRICS = ("mrr", "recall@10", "hit@1", "auc", "ndcg@10")
MIB = 1 << 20
_WIDTH, _HEIGHT, _MARGIN = 300, 22, 8


def comparison_page(comparison: Comparison, gates: Sequence[Gate] = ()) -> str:
    """HTML; with `gates` the page says how each of them came out."""
    first, second = comparison.first, comparison.second
    title = f"{first.label} against {second.label}" if second else f"{first.label}, without a champion"
    style = (resources.files("twinspire.evaluation.figures") / "comparison.css").read_text(encoding="utf-8")
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>\n<style>\n{style}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(_measured_on(comparison))}</p>",
        *_verdict(comparison),
        *_gates(gates),
        *_sides(comparison),
        *_quality(comparison),
        *_changes(comparison),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _measured_on(comparison: Comparison) -> str:
    report = comparison.report
    told = [f"{report.cases_evaluated:,} clicks later than training"] if report.cases_evaluated else []
    if report.judgements:
        told.append(f"{report.judgements.cases:,} judged pairs")
    return f"Measured on {' and '.join(told)}, {report.items:,} items, dataset {comparison.dataset_fingerprint[:12]}."


def _verdict(comparison: Comparison) -> Iterator[str]:
    metric = next((one for one in FIRST_METRICS if comparison.where(one)), None)
    section = comparison.where(metric) if metric else None
    found = _difference(section, metric) if section and metric else None
    if comparison.second is None or found is None or found.value is None:
        return
    kind, word = {1: ("better", "better"), -1: ("worse", "worse")}.get(_sign(found), ("", "neither better nor worse"))
    beyond = "beyond" if kind else "within"
    yield (
        f'<p class="verdict {kind}"><b>{_text(comparison.first.label)} is {word}</b>, {beyond} chance: '
        f"{metric} {_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)}).</p>"
    )


def _gates(gates: Sequence[Gate]) -> Iterator[str]:
    if not gates:
        return
    refused = sum(not gate.passed for gate in gates)
    yield f"<h2>Gates: {'every one passed' if not refused else f'{refused} of {len(gates)} refused'}</h2><table>"
    for gate in sorted(gates, key=lambda gate: gate.passed):
        mark = '<span class="yes">passed</span>' if gate.passed else '<span class="no">refused</span>'
        cells = "".join(f'<td class="text">{_text(told)}</td>' for told in (gate.name, gate.reason))
        yield f"<tr><td>{mark}</td>{cells}</tr>"
    yield "</table>"


def _sides(comparison: Comparison) -> Iterator[str]:
    sides = [comparison.first, *([comparison.second] if comparison.second else [])]
    heads = "".join(f"<th>{_text(side.label)}</th>" for side in sides)
    yield f"<h2>Index, latency, size</h2><table><tr><th></th>{heads}</tr>"
    for name, values in side_rows(sides):
        yield f"<tr><td>{_text(name)}</td>{''.join(f'<td>{_text(value)}</td>' for value in values)}</tr>"
    yield "</table><p>Times are of one search at a time, for nobody in particular, on the machine that compared.</p>"


def side_rows(sides: Sequence[Side]) -> Iterator[tuple[str, list[str]]]:
    """What is told of the bundles themselves: a name and a text for each."""
    yield "items", [f"{side.items:,}" for side in sides]
    yield "trained until", [(side.trained_until or "-")[:16].replace("T", " ") for side in sides]
    yield "index", [side.index for side in sides]
    yield "index recall@100", [f"{side.recall_at_100:.4f}" for side in sides]
    yield "search p50, ms", [f"{side.p50_ms:.2f}" for side in sides]
    yield "search p99, ms", [f"{side.p99_ms:.2f}" for side in sides]
    yield "size, MiB", [f"{side.bytes / MIB:,.1f}" for side in sides]
    yield "canary queries", ["wrong" if side.canary_problem else f"{side.canaries} right" for side in sides]


def _quality(comparison: Comparison) -> Iterator[str]:
    sections = dict(comparison.report.slices) if comparison.report.cases_evaluated else {}
    sections = {name: section for name, section in sections.items() if section.cases}
    if sections:
        yield "<h2>Quality by slice of queries</h2>"
        yield f"<p>Later clicks. {_reading(comparison)}</p>"
        yield from _metrics(sections, comparison)
    if comparison.report.judgements:
        yield f"<h2>Quality by judgements</h2><p>{_reading(comparison)}</p>"
        yield from _metrics({"judged pairs": comparison.report.judgements}, comparison)


def _reading(comparison: Comparison) -> str:
    if comparison.second is None:
        return "In brackets the 95 % interval, queries resampled."
    return (
        "Bars are 95 % intervals of the paired difference, queries resampled: blue where the first is better beyond "
        "chance, orange where it is worse."
    )


def _metrics(sections: dict[str, Section], comparison: Comparison) -> Iterator[str]:
    there = list(next(iter(next(iter(sections.values())).systems.values())))
    ordered = [metric for metric in FIRST_METRICS if metric in there]
    ordered += [metric for metric in there if metric not in ordered]
    for number, metric in enumerate(ordered):
        yield f"<details{' open' if number < 2 else ''}><summary>{_text(metric)}</summary>"
        yield from _metric(sections, metric, comparison)
        yield "</details>"


def _metric(sections: dict[str, Section], metric: str, comparison: Comparison) -> Iterator[str]:
    labels = [side.label for side in (comparison.first, comparison.second) if side]
    paired = '<th>difference</th><th class="text"></th>' if comparison.second else ""
    heads = "".join(f"<th>{_text(label)}</th>" for label in labels)
    yield f"<table><tr><th>slice</th><th>cases</th><th>queries</th>{heads}{paired}</tr>"
    found = {name: _difference(section, metric) for name, section in sections.items()}
    ends = [abs(end) for one in found.values() if one for end in (one.low, one.high) if end is not None]
    widest = max(ends, default=0.0) or 1.0
    for name, section in sections.items():
        cells = "".join(f"<td>{_figure(section.systems[label][metric])}</td>" for label in labels)
        difference = found[name]
        if comparison.second:
            cells += f'<td>{_paired(difference)}</td><td class="text">{_bar(difference, widest)}</td>'
        told = f'<td title="{_text(section.description)}">{_text(name)}</td>'
        yield f"<tr>{told}<td>{section.cases:,}</td><td>{section.queries:,}</td>{cells}</tr>"
    yield "</table>"


def _figure(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f'{estimate.value:.3f} <span class="dim">({estimate.low:.3f} to {estimate.high:.3f})</span>'


def _paired(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "-"
    kind = {1: "yes", -1: "no"}.get(_sign(estimate), "")
    interval = f'<span class="dim">({_signed(estimate.low)} to {_signed(estimate.high)})</span>'
    return f'<span class="{kind}">{_signed(estimate.value)}</span> {interval}'


def _bar(estimate: Estimate | None, widest: float) -> str:
    """An interval around zero, which is in the middle."""
    middle, y = _WIDTH / 2, _HEIGHT / 2
    lines = f'<line x1="{middle}" x2="{middle}" y1="0" y2="{_HEIGHT}" stroke="#bbb"/>'
    if estimate is not None and None not in (estimate.value, estimate.low, estimate.high):
        scale = (middle - _MARGIN) / widest
        low, value, high = (middle + scale * (end or 0.0) for end in (estimate.low, estimate.value, estimate.high))
        colour = {1: BETTER, -1: WORSE}.get(_sign(estimate), UNSURE)
        lines += (
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="5" '
            f'stroke-linecap="round" opacity=".45"/><circle cx="{value:.1f}" cy="{y}" r="4.5" fill="{colour}"/>'
        )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="paired difference">{lines}</svg>'


def _changes(comparison: Comparison) -> Iterator[str]:
    if comparison.second is None or comparison.mean_overlap is None:
        return
    yield "<h2>Queries whose results changed most</h2>"
    yield (
        f"<p>Of the {comparison.queries_asked:,} most searched queries; the first ten results of both overlap by "
        f"{comparison.mean_overlap:.2f} on average (1: the same in the same order). Shaded items are in one list only, "
        "arrows say where an item stands in the other; green counts are later clicks on the item for that query.</p>"
    )
    if not comparison.changes:
        yield "<p>None changed.</p>"
    for change in comparison.changes:
        yield from _change(change, comparison.first.label, comparison.second.label)


def _change(change: Change, first: str, second: str) -> Iterator[str]:
    clicks = f"{change.clicks:,} later click{'' if change.clicks == 1 else 's'}"
    told = f"{clicks}, overlap {change.overlap:.2f}"
    yield f'<div class="query"><h3>{_text(change.query)} <span class="dim">{told}</span></h3><div class="lists">'
    yield from _list(first, change.first, change.second, "first")
    yield from _list(second, change.second, change.first, "second")
    yield "</div></div>"


def _list(label: str, own: Sequence[Shown], other: Sequence[Shown], kind: str) -> Iterator[str]:
    places = {item.item_id: rank for rank, item in enumerate(other, 1)}
    yield f'<div class="{kind}"><b>{_text(label)}</b><ol>'
    for rank, item in enumerate(own, 1):
        there = places.get(item.item_id)
        clicks = f'<span class="clicks">{item.clicks:,} ✓</span>' if item.clicks else ""
        moved = "only here" if there is None else "" if there == rank else f"{'↑' if rank < there else '↓'} {there}"
        yield (
            f'<li class="{"only" if there is None else ""}"><span class="rank">{rank}</span>'
            f'<span class="title" title="{_text(item.title)} ({_text(item.item_id)})">{_text(item.title)}</span>'
            f'{clicks}<span class="moved">{moved}</span></li>'
        )
    yield "</ol></div>"


def _difference(section: Section | None, metric: str) -> Estimate | None:
    return None if section is None else next(iter(section.differences.values()), {}).get(metric)


def _sign(estimate: Estimate) -> int:
    """1 where the interval is above zero, -1 where it is below, 0 where it holds it."""
    if estimate.low is not None and estimate.low > 0:
        return 1
    return -1 if estimate.high is not None and estimate.high < 0 else 0


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
