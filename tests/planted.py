"""Experiments declared for tests, whose events are simulated with a planted truth."""

from datetime import UTC, datetime

from twinspire.experiments.spec import Experiment

START = datetime(2026, 11, 2, tzinfo=UTC)


def declare(arms=("control", "treatment"), **more):
    split = more.get("kind", "split") == "split"
    guardrails = {"p99_ms": 50, "empty_share": 0.02, "error_share": 0.01} if split else {}
    given = {"name": "e", "arms": [{"name": arm} for arm in arms], "start": START, "status": "running"}
    return Experiment.model_validate({**given, "guardrails": guardrails, **more})
