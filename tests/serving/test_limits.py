import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.limits import NEVER, RateLimiter, deadline
from serving.problems import Refusal

steps = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 300)), min_size=1, max_size=50)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@given(rate=st.floats(0.1, 50), steps=steps)
def test_over_any_time_no_more_passes_than_rate_burst_and_one_last_batch(rate, steps):
    clock = Clock()
    limiter = RateLimiter(rate, clock)
    passed, largest = 0, 0
    for pause, cost in steps:
        clock.now += pause
        if not limiter.take("a", cost):
            passed += cost
            largest = max(largest, cost)
    assert passed <= rate * clock.now + max(rate, 1) + largest + 1e-6


@given(rate=st.floats(0.1, 50), asked=st.integers(1, 200))
def test_after_the_wait_that_is_told_a_request_passes(rate, asked):
    clock = Clock()
    limiter = RateLimiter(rate, clock)
    for _ in range(asked):
        limiter.take("a")
    while not (wait := limiter.take("a")):
        pass
    clock.now += wait * (1 + 1e-9) + 1e-9
    assert limiter.take("a") == 0


def test_names_do_not_share_a_rate():
    limiter = RateLimiter(1, Clock())
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0


def test_a_charge_is_paid_back():
    clock = Clock()
    limiter = RateLimiter(10, clock)
    limiter.take("a")
    limiter.charge("a", 99)
    assert limiter.take("a") == pytest.approx(9.1)
    clock.now += 9.2
    assert limiter.take("a") == 0


@given(st.floats(1e-3, 3.6e6))
def test_a_deadline_is_that_many_milliseconds_ahead(wait):
    assert deadline(str(wait).encode(), 12.5) == 12.5 + wait / 1000


def test_without_the_header_there_is_no_deadline():
    assert deadline(None, 0.0) == NEVER


@pytest.mark.parametrize("header", [b"", b"0", b"-1", b"soon", b"nan", b"inf", b"1e99", b"\xff", b"0x10", b"3600001"])
def test_what_is_no_time_is_refused(header):
    with pytest.raises(Refusal) as refused:
        deadline(header, 0.0)
    assert (refused.value.status, refused.value.field) == (422, "x-deadline-ms")
