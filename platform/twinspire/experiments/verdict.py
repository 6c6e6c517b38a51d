"""What to do, in one sentence that a product manager can act on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from twinspire.experiments.report import Verdict

if TYPE_CHECKING:
    from twinspire.experiments.report import Comparison, Facts, GuardLine, Report

SOON_DAYS = 60  # a decision further away is no plan
WEEK = timedelta(days=7)
MIXED_SHARE = 0.01


def decide(report: Report, days_left: dict[str, float | None]) -> Verdict:
    """The first that applies: do not trust, stop by a guardrail, stop, ship, wait, or no winner."""
    notes = _notes(report)
    if not report.ratio.trusted:
        return Verdict(kind="distrust", arm=None, sentence=_distrust(report), notes=notes)
    stopping = [guard for guard in report.guards if guard.stops]
    if stopping:
        return Verdict(kind="guardrail", arm=stopping[0].arm, sentence=_guardrail(stopping[0]), notes=notes)
    primary = [report.primary_of(arm) for arm in report.treatments]
    known = [one for one in primary if one.lift is not None]
    if not known:
        sentence = (
            f"Too early to say: {report.units:,} {report.unit}s so far; each arm needs at least 100, 20 of them with "
            f"something to count in {primary[0].title.lower()}."
        )
        return Verdict(kind="too_early", arm=None, sentence=sentence, notes=notes)
    winners = sorted((one for one in known if one.better), key=lambda one: abs(one.lift or 0), reverse=True)
    if winners:
        return _winner(report, winners[0], notes)
    losers = [one for one in known if one.clear]
    if losers and len(losers) == len(primary):
        worst = losers[0]
        sentence = f"Stop {worst.arm}: {worst.title.lower()} is worse than the control's by {_range(worst)}."
        return Verdict(kind="stop", arm=worst.arm, sentence=sentence, notes=notes)
    open_ = [one for one in known if not one.clear]
    return _waiting(report, open_[0], days_left.get(open_[0].arm), notes)


def _winner(report: Report, best: Comparison, notes: tuple[str, ...]) -> Verdict:
    harmed = [one for one in report.comparisons if one.arm == best.arm and one.clear and one.better is False]
    gain = f"{best.title.lower()} {_moved(best)}, {_range(best)}"
    if harmed:
        sentence = f"Weigh it up: with {best.arm} {gain}, but {harmed[0].title.lower()} {_moved(harmed[0])}."
        return Verdict(kind="weigh", arm=best.arm, sentence=sentence, notes=notes)
    if report.until - report.since < WEEK and report.status == "running" and report.step_seconds >= 86400:
        notes = (*notes, "Less than a whole week was seen; weekends may differ from weekdays.")
    return Verdict(kind="ship", arm=best.arm, sentence=f"Ship {best.arm}: {gain}.", notes=notes)


def _waiting(report: Report, one: Comparison, days: float | None, notes: tuple[str, ...]) -> Verdict:
    assert one.low is not None
    assert one.high is not None
    span = f"anything from {percent(one.low)} to {percent(one.high)}"
    so_far = f"{one.title.lower()} is {percent(one.lift)} with {one.arm}"
    if is_over(report):
        sentence = f"No winner: {so_far}, but what was seen fits {span}; keep the control unless {one.arm} is cheaper."
        return Verdict(kind="no_winner", arm=one.arm, sentence=sentence, notes=notes)
    sentence = f"Keep running: {so_far} so far, but the truth may be {span}; {when_decided(report, days)}."
    return Verdict(kind="keep_running", arm=one.arm, sentence=sentence, notes=notes, days_left=days)


def is_over(report: Facts) -> bool:
    """Whether nothing more will come."""
    return report.status == "stopped" or (report.end is not None and report.until >= report.end - timedelta(hours=1))


def when_decided(report: Facts, days: float | None) -> str:
    """What waiting for `days` more is worth."""
    if days is None or days > SOON_DAYS:
        return "no decision is in sight at this size; let it run only if smaller differences matter"
    late = report.end is not None and report.until + timedelta(days=days) > report.end
    after = f", after its end on {report.end:%-d %B}; let it run longer" if late else ""
    return f"if it stays so, decision in about {_days(days)}{after}"


def _distrust(report: Report) -> str:
    off = max(report.ratio.arms, key=lambda arm: abs(arm.observed - arm.expected))
    return (
        f"Do not trust this test: {off.name} got {off.observed:.2%} of the {report.unit}s where {off.expected:.2%} "
        "were planned, more than chance explains (sample ratio mismatch); find out who is missing before reading on."
    )


def _guardrail(guard: GuardLine) -> str:
    if guard.name == "p99_ms":
        value = f"1 in 100 answers takes longer than {guard.value:,.0f} ms" if guard.value else "answers are slow"
        return f"Stop {guard.arm}: {value}, the limit is {guard.limit:g} ms."
    when = f" around {guard.since:%-d %B %H:%M}" if guard.worst != guard.share and guard.since else ""
    what = {"empty_share": "find nothing", "error_share": "fail"}[guard.name]
    return f"Stop {guard.arm}: {guard.worst:.2%} of its searches {what}{when}, the limit is {guard.limit:.2%}."


def _notes(report: Report) -> tuple[str, ...]:
    notes = []
    everyone = report.units + report.mixed
    if report.mixed > MIXED_SHARE * everyone:
        notes.append(
            f"{report.mixed:,} {report.unit}s ({report.mixed / everyone:.1%}) were shown more than one arm and are "
            "left out: weights or arms were changed while the experiment ran."
        )
    notes += [
        f"{arm} was answered by {len(versions)} versions of its bundle, {versions[-1]} last: what is compared changed "
        "while the experiment ran."
        for arm, versions in report.versions.items()
        if len(versions) > 1
    ]
    if report.end is None and report.until - report.since < timedelta(days=1):
        notes.append("No end is declared, so two weeks are planned and ranges are wide until then: declare an end.")
    notes += [
        f"{guard.arm} breaks a limit ({guard.title}), but is not worse than the control: look at the servers."
        if guard.arm in report.treatments
        else f"The control breaks a limit ({guard.title}): no doing of a treatment."
        for guard in report.guards
        if guard.broken and not guard.stops
    ]
    return tuple(notes)


def _moved(one: Comparison) -> str:
    assert one.lift is not None
    return f"{'rises' if one.lift > 0 else 'falls'} by {abs(one.lift):.1%}"


def _range(one: Comparison) -> str:
    assert one.low is not None
    assert one.high is not None
    low, high = sorted((abs(one.low), abs(one.high)))
    return f"between {low:.1%} and {high:.1%}" if one.low * one.high > 0 else f"about {abs(one.lift or 0):.1%}"


def _days(days: float) -> str:
    if days < 2 / 24:
        return f"{max(round(days * 24 * 60), 1)} minutes"
    if days < 2:
        return f"{round(days * 24)} hours"
    return f"{round(days)} days"


def percent(share: float | None) -> str:
    """A lift for a reader, with a sign: +2.1 %."""
    return "not known" if share is None else f"{share:+.1%}".replace("-", "−")
