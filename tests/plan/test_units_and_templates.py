"""Durations, rates and templates: read exactly, and back again."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.template import Ref, Template, TemplateError, UnknownName, substitute
from loads_queue.model.units import (
    LONGEST_NS,
    SECOND,
    format_duration,
    names_no_zone,
    parse_duration,
    parse_rate,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("500ms", 500_000_000), ("30s", 30 * SECOND), ("5m", 300 * SECOND), ("1h30m", 5400 * SECOND), (3, 3 * SECOND),
        (0.5, SECOND // 2), ("0.1", SECOND // 10), ("1.5s", 1_500_000_000), ("2us", 2000), ("1d", 86400 * SECOND),
        ("0s", 0), (0, 0),
    ],
)  # fmt: skip
def test_durations(text: object, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", ["5 parsecs", "", "s", "-1s", -1, True, None, "1e3", "1s2", "9999999d", [], {}, float("nan"), "1" * 100]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_the_message_is_the_documented_one() -> None:
    with pytest.raises(ValueError, match=r"^not a duration: '5 parsecs'$"):
        parse_duration("5 parsecs")


def test_a_unit_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="not a duration: 300"):
        parse_duration(300, unit_needed=True)


@given(st.integers(0, LONGEST_NS))
def test_formatted_durations_read_back(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (50, 50), ("50", 50), ("50/s", 50), ("300/m", 5), ("1/10s", Fraction(1, 10)), (0.1, Fraction(1, 10)),
        ("7200/h", 2), ("1/500ms", 2), ("0", 0),
    ],
)  # fmt: skip
def test_rates(text: object, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["x", "1/0s", "1/", "/s", "5/parsec", -1, 1e300, True, None, "1e9", float("inf")])
def test_no_rates(text: object) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "second", "no_zone"),
    [
        ("1970-01-01T00:00:00Z", 0, False),
        ("2026-01-31T22:00:00+01:00", 1769893200, False),
        (" 2026-01-31 21:00Z ", 1769893200, False),
        ("2026-01-31 21:00", 1769893200, True),
        ("2026-01-31T21:00:00.25", Fraction("1769893200.25"), True),
        ("2199-12-31T23:59:59Z", 7258118399, False),
    ],
)
def test_times(text: str, second: int | Fraction, no_zone: bool) -> None:
    assert parse_time(text) == second * SECOND
    assert names_no_zone(text) is no_zone


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-31", "20260131T100000Z", "2026-W05-6T10:00Z", "2026-13-01 10:00", "2026-01-31 25:00",
     "2026-01-31 10:00+99:00", "2200-01-01 00:00Z", "1969-12-31 23:59Z", 1769893200, 1.5, None, True, [],
     "2026-01-31 10:00 CET", "0001-01-01 00:00+23:59"],
)  # fmt: skip
def test_no_times(text: object) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_time(text)


def resolve(ref: Ref) -> object:
    if ref.args is not None:
        return f"{ref!s}{list(ref.args)}"
    return {"row.n": 7, "row.t": "x y", "row.list": [1, "a"], "var.none": None}[ref]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"), ("", ""), ("${row.n}", 7), ("n=${row.n}", "n=7"), ("${row.list}", [1, "a"]),
        ("l=${row.list}", 'l=[1,"a"]'), ("$$", "$"), ("$${row.n}", "${row.n}"), ("5 $", "5 $"), ("$x", "$x"),
        ("${ row.t }!", "x y!"), ("${var.none}", None), ("-${var.none}", "-null"),
        ("${fn.random_int(1, -6)}", "fn.random_int[1, -6]"), ('${fn.base64("a}\\"b")}', "fn.base64['a}\"b']"),
        ("${fn.base64(row.n)}", "fn.base64[7]"), ("${fn.uuid()}", "fn.uuid[]"),
    ],
)  # fmt: skip
def test_rendering(text: str, value: object) -> None:
    assert Template.parse(text).render(resolve) == value


@pytest.mark.parametrize(
    "text", ["${", "${}", "${ }", "${row.n", "a ${b c", "${fn.x(}", "${fn.x(1,)}", "${fn.x(1)", "${a'b}"]
)
def test_broken_templates(text: str) -> None:
    with pytest.raises(TemplateError):
        Template.parse(text)


def test_references_include_arguments() -> None:
    assert Template.parse("${row.a}${fn.base64(secret.K)}").refs() == ("row.a", "fn.base64", "secret.K")


def test_the_plan_time_pass_leaves_the_rest_alone() -> None:
    env: dict[str, object] = {"HOST": "h", "N": 3}
    assert substitute("http://${HOST}/${row.x}/$$/${RUN_ID}", env) == "http://h/${row.x}/$$/${RUN_ID}"
    assert substitute("${N}", env) == 3
    assert substitute("${fn.base64(HOST)}", env) == '${fn.base64("h")}'
    with pytest.raises(UnknownName, match="NOPE"):
        substitute("a ${NOPE}", env)


def test_substitution_is_bounded() -> None:
    with pytest.raises(TemplateError, match="longer than"):
        substitute("${A}${A}${A}", {"A": "x" * 500_000})


@given(st.text(max_size=200))
def test_escaped_text_comes_back(text: str) -> None:
    assert Template.parse(text.replace("$", "$$")).literal == text


@given(st.text(alphabet="${}()ab.\"', \\1fn", max_size=60))
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    try:
        parsed = Template.parse(text)
    except TemplateError:
        return
    source = "".join(
        f"${{{part.source()}}}" if isinstance(part, Ref) else part.replace("$", "$$") for part in parsed.parts
    )
    assert Template.parse(source) == parsed
    assert all(
        mine.args == other.args for mine, other in zip(Template.parse(source).refs(), parsed.refs(), strict=True)
    )


@given(st.text(alphabet="${}()ab.\"', \\1fnAB", max_size=60))
def test_the_plan_time_pass_raises_template_errors_only(text: str) -> None:
    try:
        substitute(text, {"A": "x", "B": 2})
    except TemplateError:
        return
    Template.parse(text)
