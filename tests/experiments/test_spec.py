"""An experiment's file: what is sound is read, anything else is one line that names the key."""

from datetime import UTC, datetime

import pytest

from twinspire.errors import ExperimentError
from twinspire.experiments.spec import read_experiment

WHOLE = """
name: dpsr-vs-bm25
salt: 2026-11-01
unit: session
layer: ranking
share: 0.5
arms:
  - {name: control, bundle: "models:/shop@champion", parameters: {retrieval: lexical}}
  - {name: treatment, weight: 3, bundle: ../new, parameters: {lexical: 0, personalised: false}}
audience: {country: [de, fr], age: {min: 18}}
start: 2026-12-01T00:00:00Z
end: 2026-12-15T00:00:00+02:00
status: running
metrics: {primary: ucvr, secondary: [gmv_per_user, qrr]}
guardrails: {p99_ms: 50, empty_share: 0.02, error_share: 0.01}
"""
SMALL = "name: a\narms: [{name: x}, {name: y}]\n"


@pytest.fixture
def read(tmp_path):
    def of(text):
        file = tmp_path / "experiments" / "one.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return read_experiment(file)

    return of


def test_a_whole_one(read, tmp_path):
    one = read(WHOLE)
    assert (one.name, one.salt, one.unit, one.layer, one.share) == (
        "dpsr-vs-bm25", "2026-11-01", "session", "ranking", 0.5,
    )  # fmt: skip
    assert [arm.weight for arm in one.arms] == [1, 3]
    assert one.control.bundle == "models:/shop@champion"
    assert one.arm("treatment").bundle == str(tmp_path / "experiments" / ".." / "new")
    assert one.changes == {"bundle", "retrieval", "lexical", "personalised"}
    assert one.end == datetime(2026, 12, 14, 22, tzinfo=UTC)
    assert one.guardrails.p99_ms == 50


def test_what_is_left_out(read):
    one = read(SMALL)
    assert (one.salt, one.unit, one.share, one.status, one.kind) == ("a", "user", 1, "draft", "split")
    assert one.control.bundle is None
    assert one.changes == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "line 1: not YAML"),
        ("- a", "must hold an experiment's keys"),
        ("arms: [{name: x}, {name: y}]", "name: field required"),
        ("name: A b\narms: [{name: x}, {name: y}]", "name: may hold small letters"),
        ("name: a\narms: [{name: x}]", "arms: "),
        ("name: a\narms: [{name: x}, {name: x}]", "arms: each needs a name of its own"),
        ("name: a\narms: [{name: x}, {name: y, weight: 0}]", "arms[1].weight: "),
        ("name: a\narms: [{name: x}, {name: y, colour: 0}]", "arms[1].colour: no such key"),
        ("name: a\narms: [{name: x}, {name: y, parameters: {lexcal: 0}}]", "arms[1].parameters.lexcal: no such key"),
        (SMALL + "share: 1.5", "share: "),
        (SMALL + "status: on", "status: "),
        (SMALL + "colour: 1", "colour: no such key"),
        (SMALL + "start: 2026-12-01\nend: 2026-12-01", "end: is not after start"),
        (SMALL + "audience: {age: {least: 3}}", "audience.age: "),
        (SMALL + "audience: {age: {}}", "audience.age: give min, max or both"),
        (SMALL + "audience: {age: []}", "audience.age: give at least one value"),
        ("name: a\nkind: interleave\narms: [{name: x}, {name: y}, {name: z}]", "arms: interleaving is between two"),
        (
            "name: a\nkind: interleave\narms: [{name: x}, {name: y}]\nguardrails: {error_share: 0.1}",
            "guardrails: an interleaved answer is of both arms",
        ),
    ],
)
def test_what_is_not_sound_is_one_line_that_names_the_key(read, tmp_path, text, says):
    with pytest.raises(ExperimentError) as error:
        read(text)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert says in str(error.value)
