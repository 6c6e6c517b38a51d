"""The page of a comparison: what it says, that it is safe, and that it needs nothing from elsewhere."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_gates import BETTER, GIB, UNSURE, WORSE, comparison, section

from twinspire.evaluation.changes import Change, Shown, average_overlap
from twinspire.evaluation.figures.comparison import comparison_page
from twinspire.registry.gates import GateConfig, judge

VOID = {"meta"}


class Checked(HTMLParser):
    """Every element that opens closes, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.elements = [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def changed(query, title="a title"):
    items = [Shown(item_id=f"i{n}", title=title, clicks=n % 2) for n in range(3)]
    return Change(query=query, clicks=7, overlap=0.25, first=items, second=[items[2], items[0]])


def page(difference=BETTER, *, gates=(), query="red shoes", title="a title", **changes):
    found = comparison(difference, slices={"tail": section(difference)}, **changes)
    update = {"changes": [changed(query, title)], "queries_asked": 9, "mean_overlap": 0.5}
    return comparison_page(found.model_copy(update=update), gates)


@pytest.mark.parametrize(
    ("difference", "told"),
    [(BETTER, "is better</b>, beyond chance"), (WORSE, "is worse</b>, beyond"), (UNSURE, "neither better nor worse")],
)
def test_the_verdict_comes_first_and_says_how_sure_it_is(difference, told):
    text = page(difference)
    assert told in text
    assert text.index("verdict ") < text.index("Quality by slice")


def test_gates_that_refuse_come_first_with_their_reasons():
    found = comparison(WORSE, bytes=33 * GIB)
    text = comparison_page(found, judge(found, GateConfig()))
    assert "2 of 6 refused" in text
    assert text.index("at most 32.0000 is allowed") < text.index("canary queries answered")


@given(st.text(min_size=1), st.text())
def test_no_query_and_no_title_can_break_the_page(query, title):
    checked = Checked()
    checked.feed(page(query=query, title=title))
    assert checked.open == []
    tags = {tag for tag, _ in checked.elements}
    assert not tags & {"script", "link", "img", "iframe"}
    assert not [given for _, given in checked.elements if {"src", "href", "onclick"} & set(given)]


def test_a_version_alone_has_a_page_too():
    text = comparison_page(comparison())
    assert "without a champion" in text
    assert "difference" not in text.split("</style>")[1]


def test_overlap_by_hand():
    assert average_overlap(["a", "b"], ["a", "b"]) == 1
    assert average_overlap(["a", "b"], ["c", "d"]) == 0
    assert average_overlap(["a", "b"], ["b", "a"]) == 0.5  # nothing in common at depth 1, all at depth 2
    assert average_overlap(["a", "b", "c"], ["a"]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert average_overlap([], []) == 1


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_overlap_is_symmetric_and_a_share(one, other):
    found = average_overlap(one, other)
    assert found == average_overlap(other, one)
    assert 0 <= found <= 1
    assert (found == 1) == (one == other)
