"""Thresholds: the whole grammar, and how each kind of value is judged."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.thresholds import (
    DEFAULT,
    EXAMPLE_ABORT,
    METRICS,
    AbortWhen,
    Scope,
    Threshold,
    ThresholdError,
    default_thresholds,
    parse,
    parse_abort,
)

Value = int | float | Fraction | None


class Fixed:
    """Results in which every metric has the same value."""

    def __init__(self, value: Value, planned: Value = None) -> None:
        self._value, self._planned = value, planned

    def value(self, source: str, metric: str, scope: Scope) -> Value:
        return self._value

    def planned(self, metric: str, scope: Scope) -> Value:
        return self._planned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p95 < 300ms", ("", "p95", Scope(), "<", 300_000_000, False)),
        (
            "p99.9(browse/list products) < 2s",
            ("", "p99.9", Scope("browse", None, "list products"), "<", 2 * 10**9, False),
        ),
        ("error_rate(browse) < 1%", ("", "error_rate", Scope("browse"), "<", Fraction(1, 100), False)),
        ("iteration:rate(browse) > 45/s", ("iteration", "rate", Scope("browse"), ">", 45, False)),
        ("iteration:p95(browse@steady)<5s", ("iteration", "p95", Scope("browse", "steady"), "<", 5 * 10**9, False)),
        ("dropped < 0.1%", ("", "dropped", Scope(), "<", Fraction(1, 1000), True)),
        ("requests(a@b/GET /x (1)) >= 10", ("", "requests", Scope("a", "b", "GET /x (1)"), ">=", 10, False)),
        ("service: max <= 1.5s", ("service", "max", Scope(), "<=", 1_500_000_000, False)),
        ("user_seconds >= 99%", ("", "user_seconds", Scope(), ">=", Fraction(99, 100), True)),
        ("error_rate == 0", ("", "error_rate", Scope(), "==", 0, False)),
        ("rate > 300/m", ("", "rate", Scope(), ">", 5, False)),
        ("p95(a/x > 3) < 1s", ("", "p95", Scope("a", None, "x > 3"), "<", 10**9, False)),
    ],
)
def test_what_is_read(text: str, expected: tuple[object, ...]) -> None:
    found = parse(text)
    assert (found.source, found.metric, found.scope, found.op, found.limit, found.of_planned) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p95 < 300", "needs a unit"),
        ("p97 < 1s", "did you mean 'p99'"),
        ("p95", "not a threshold"),
        ("p95 <> 1s", "not a"),
        ("p95 < 1s and p99 < 2s", "not a"),
        ("requests < 10%", "not planned"),
        ("error_rate < 150%", "not a ratio"),
        ("iteration:requests > 1", "does not go with"),
        ("http:p95 < 1s", "unknown prefix 'http'"),
        ("iteration:p95(a/b) < 1s", "no series"),
        ("dropped(a/b) < 1", "no series"),
        ("p95() < 1s", "not a step"),
        ("p95(a@) < 1s", "not a step"),
        ("p95(a/) < 1s", "not a step"),
        ("rate > fast", "not a rate"),
        ("dropped < many", "not a count"),
        ("x" * 501, "not a threshold"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ThresholdError, match=message.replace("(", r"\(")):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value", "planned", "passed", "number"),
    [
        ("p95 < 300ms", 250_000_000, None, True, 250.0),
        ("p95 < 300ms", 300_000_000, None, False, 300.0),
        ("p95 <= 300ms", 300_000_000, None, True, 300.0),
        ("p95 < 300ms", math.inf, None, False, None),
        ("p95 > 300ms", math.inf, None, True, None),
        ("p95 < 300ms", None, None, False, None),
        ("error_rate < 1%", Fraction(1, 100), None, False, 0.01),
        ("error_rate < 1%", None, None, False, None),
        ("requests >= 0", None, None, True, 0.0),
        ("dropped < 1%", 1, 101, True, 1 / 101),
        ("dropped < 1%", 1, 100, False, 0.01),
        ("dropped < 1%", 0, 0, False, None),
        ("dropped == 0", 0, None, True, 0.0),
        ("rate > 45/s", Fraction(91, 2), None, True, 45.5),
        ("mean < 1s", Fraction(1_000_001, 2), None, True, 0.5000005),
    ],
)
def test_how_it_is_judged(text: str, value: Value, planned: Value, passed: bool, number: float | None) -> None:
    verdict = parse(text).judge(Fixed(value, planned))
    assert (verdict.passed, verdict.value) == (passed, number)
    assert verdict.expression == text
    assert bool(verdict.reason) is not passed


def test_no_data_says_so() -> None:
    assert parse("p95 < 1s").judge(Fixed(None)).reason == "no data"


def test_the_default_fails_without_a_single_iteration() -> None:
    (only,) = default_thresholds()
    assert only.expression == DEFAULT
    assert not only.judge(Fixed(None)).passed
    assert not only.judge(Fixed(Fraction(1))).passed
    assert only.judge(Fixed(Fraction(99, 100))).passed


@given(st.text(max_size=80) | st.from_regex(r"[a-z0-9_.:]{1,8}(\([a-z@/]{0,5}\))? ?[<>=]{1,2} ?[0-9.a-z%/]{1,6}"))
def test_any_text_is_a_threshold_or_a_threshold_error(text: str) -> None:
    try:
        found = parse(text)
    except ThresholdError:
        return
    assert isinstance(found, Threshold)
    assert found.metric in METRICS


@pytest.mark.parametrize(
    ("text", "threshold", "seconds"),
    [
        (EXAMPLE_ABORT, "error_rate > 20%", 10),
        (" p95(wait for it/GET /)  >  3s   for 1m30s ", "p95(wait for it/GET /) > 3s", 90),
        ("iteration:p50(a@b) >= 2s for 1h", "iteration:p50(a@b) >= 2s", 3600),
    ],
)
def test_what_ends_a_run_early(text: str, threshold: str, seconds: int) -> None:
    found = parse_abort(text)
    assert found == AbortWhen(parse(threshold), seconds * 10**9)
    assert parse_abort(found.expression) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p95(wait for it) > 3s", "for how long"),
        ("p95 > 3s for", "not a duration"),
        ("p95 > 3s for ever", "not a duration: 'ever'"),
        ("p95 > 3s for 10s for 10s", "not a duration"),
        ("for 10s", "not a threshold"),
        ("lost > 0 for 10s", "lost: is known for certain at the end"),
        ("iteration:missed > 1% for 10s", "missed: is known"),
        ("p95 > 3s for 0s", "not whole seconds"),
        ("", "not a threshold"),
        ("x" * 501, "not a condition"),
    ],
)
def test_what_ends_no_run(text: str, message: str) -> None:
    with pytest.raises(ThresholdError, match=message):
        parse_abort(text)


@given(st.text(max_size=80) | st.from_regex(r"p95 ?[<>]{1,2} ?[0-9]{1,3}m?s( for [0-9.]{1,4}[a-z]{0,2})?"))
def test_any_text_is_a_condition_or_a_threshold_error(text: str) -> None:
    try:
        found = parse_abort(text)
    except ThresholdError:
        return
    assert 10**9 <= found.for_ns <= 3600 * 10**9
    assert found.for_ns % 10**9 == 0
