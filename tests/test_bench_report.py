"""docs/performance.md comes from what was measured, whatever of it there is."""

from __future__ import annotations

import bench_data
import pytest
from bench_data import everything, loads, part, rounds

report, tables, samples, bars, compare = map(bench_data.module, ("report", "tables", "samples", "bars", "compare"))


def page(data: dict) -> str:
    return report.document(report.read_template(), data)


def test_the_page_that_is_kept_is_that_of_the_figures_that_are_kept() -> None:
    assert compare.DOCUMENT.read_text() == page(samples.load(compare.DATA))


def test_a_page_has_what_was_measured() -> None:
    text = page(everything())
    assert "| Loads, callbacks | 3.00 (2.00 to 9.00) | 2.00 (1.50 to 2.25) |" in text
    assert "| CPU per request against wrk | callbacks | at most 2.2 times | 2.00 (1.50 to 2.25) | held |" in text
    assert "the `callbacks` path takes 2.00 (1.50 to 2.25) times wrk's CPU" in text
    assert "| callbacks | 18.0 | 16.0 | 64.0 |" in text
    assert "| processor | A processor |" in text
    assert "wrk itself is " in text and " times better than Locust FastHttpUser here" in text
    assert "not all measured on the same machine" not in text
    assert "$" not in text


@pytest.mark.parametrize("missing", [*everything(), "all of it"])
def test_a_page_lacks_what_was_not_measured(missing: str) -> None:
    data = everything()
    data.pop(missing, None)
    text = page({} if missing == "all of it" else data)
    assert ("Not measured yet." in text) == (missing != "http-1k-1000")


def test_a_client_that_could_not_be_had_says_why() -> None:
    failed = samples.Sample("hey", 0, error="not | installed")
    text = page({"http-1k": part("http-1k", *rounds("wrk", 1.0), failed)})
    assert "| hey | not measured: not / installed | - |" in text


def test_parts_of_several_machines_are_told_apart() -> None:
    data = everything()
    data["memory"] = part("memory", *loads("callbacks", 1.0), measured="2026-02-01T10:00:00Z", machine="Another")
    text = page(data)
    assert "not all measured on the same machine" in text
    assert "| processor | Another |" in text


def test_a_machine_with_other_things_to_do_is_told() -> None:
    data = everything()
    assert "not quiet" not in page(data)
    data["lateness"] = part("lateness", *loads("callbacks", 1.0, others_cpu_s=2.0))
    assert "measure again what lateness shows" in page(data)


def test_a_missed_bar_is_seen() -> None:
    data = {"http-1k": part("http-1k", *rounds("wrk", 1.0), *loads("callbacks", 9.0))}
    assert "| 9.00 | **missed** | milestone |" in page(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (0.5, "0.50"),
        (2.345, "2.35"),
        (12.34, "12.3"),
        (123.4, "123"),
        (28_123.4, "28,123"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_every_bar_has_a_line() -> None:
    table = tables.bars_table(bars.judge(everything()))
    assert all(len(row) == len(table.columns) for row in table.rows)
