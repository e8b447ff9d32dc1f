"""Ratios, bars and what is read from summaries: pure questions about made-up figures."""

from __future__ import annotations

import json
from typing import Any

import bench_data
import pytest
from bench_data import everything, loads, part, rounds, sample

samples, bars, scenarios, measuring, nginx, compare, machine = map(
    bench_data.module, ("samples", "bars", "scenarios", "measuring", "nginx", "compare", "machine")
)

WEBSOCKETS = {each.name for each in scenarios.SCENARIOS if each.kind in scenarios.WEBSOCKETS}


def test_ratios_are_made_round_by_round() -> None:
    found = samples.ratios(everything()["http-1k"], "loads/callbacks", "wrk", samples.cpu)
    assert (found.median, found.low, found.high, found.rounds) == (2.0, 1.5, 2.25, 3)


def test_a_round_that_lacks_one_of_two_does_not_count() -> None:
    failed = samples.Sample("wrk", 1, error="it ended without a request")
    found = samples.ratios(
        part("http-1k", sample("wrk", 0, 1.0), failed, *rounds("hey", 4.0, 9.0)), "hey", "wrk", samples.cpu
    )
    assert (found.median, found.rounds) == (4.0, 1)
    assert samples.ratios(part("http-1k", failed), "hey", "wrk", samples.cpu) is None
    assert samples.ratios(None, "hey", "wrk", samples.cpu) is None


def test_no_requests_are_no_cost() -> None:
    assert samples.Sample("wrk", 0).cpu_per_100k is None
    assert samples.Sample("wrk", 0).rate is None
    assert samples.Sample("wrk", 0).exact is None


def test_data_survives_being_kept(tmp_path: Any) -> None:
    data = everything()
    samples.save(tmp_path / "kept" / "figures.json", data)
    assert samples.load(tmp_path / "kept" / "figures.json") == data
    assert samples.load(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99, "parts": {}}', '{"version": 1, "parts": {"a": {}}}'])
def test_a_file_that_is_no_data_is_refused(tmp_path: Any, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(samples.DataError):
        samples.load(tmp_path / "x.json")


def judged(data: Any) -> dict[str, bool | None]:
    """Whether each bar is held, by path and name."""
    return {f"{each.path}: {each.bar.name}": each.held for each in bars.judge(data)}


def test_bars_are_held_missed_or_not_measured() -> None:
    found = judged(everything())
    assert found["callbacks: CPU per request against wrk"] is True
    assert found["callbacks: CPU better than Locust's"] is True
    assert found["callbacks: lateness at 2,000/s, p99"] is True
    assert found["callbacks: memory of an idle user"] is True
    assert found["callbacks: everything besides the engine"] is True
    assert found["callbacks: achieved rate off the planned, up to 80 % of saturation"] is True
    assert found["callbacks: summary's counts off the server's"] is True
    assert found["compiled: CPU per request against wrk"] is None
    assert not any(name.startswith(": ") for name in found)


def test_the_median_is_what_is_compared() -> None:
    slow = part("http-1k", *rounds("wrk", 1.0, 1.0, 1.0), *loads("callbacks", 1.0, 2.3, 2.4))
    assert judged({"http-1k": slow})["callbacks: CPU per request against wrk"] is False


def test_growth_is_against_wrks_own() -> None:
    found = bars.growth(everything(), "callbacks")
    # 2.5 and 3 times wrk's with 1,000 connections, 2 times with 50.
    assert (found.median, found.low, found.high) == (1.375, 1.25, 1.5)


def test_one_count_that_differs_shows_in_any_part() -> None:
    data = everything()
    data["memory"] = part("memory", *loads("callbacks", 1.0, counts={"server": 9, "sent": 8, "answered": 8}))
    found = next(each for each in bars.judge(data) if "counts" in each.bar.name)
    assert (found.found.low, found.found.high, found.held) == (0, 1, False)
    assert data["memory"].samples[0].exact is False


def test_every_path_has_the_milestones_bars() -> None:
    for path in scenarios.PATHS:
        plain = [bar for bar in bars.BARS if bar.path == path and not set(bar.scenarios) & WEBSOCKETS]
        assert len(plain) == 5
    assert all(set(bar.scenarios) <= set(scenarios.BY_NAME) for bar in bars.BARS)


def test_a_saturated_comparison_takes_each_path_and_others_the_best() -> None:
    paths = ["callbacks", "greenlets"]
    plain, tls = scenarios.BY_NAME["http-1k"], scenarios.BY_NAME["https-1k"]
    assert {"loads/callbacks", "loads/greenlets", "wrk", "locust"} <= set(scenarios.clients_of(plain, paths))
    assert [name for name in scenarios.clients_of(tls, paths) if name.startswith("loads/")] == ["loads/callbacks"]
    assert "loads/greenlets" in scenarios.clients_of(tls, paths, every_path=True)


def test_rounds_alternate() -> None:
    clients = ["a", "b", "c", "d"]
    orders = [scenarios.order(clients, round_) for round_ in range(5)]
    assert all(sorted(each) == clients for each in orders)
    assert orders[0] == clients
    assert len({tuple(each) for each in orders}) == 5
    assert scenarios.order([], 3) == []


def test_nginxs_count_is_read_from_its_text() -> None:
    text = "Active connections: 2 \nserver accepts handled requests\n 10 10 4711 \nReading: 0 Writing: 1 Waiting: 1 \n"
    assert nginx.parse_count(text) == 4711
    with pytest.raises(RuntimeError):
        nginx.parse_count("404 Not Found")


def test_the_path_is_found_wherever_a_summary_names_it() -> None:
    assert measuring.path_of({"steps": [{"engine": {"path": "compiled"}}]}) == "compiled"
    assert measuring.path_of({"engines": {"callbacks": 3}}) == "callbacks"
    assert measuring.path_of({"engines": {"callbacks": 3, "greenlets": 1}}) == "mixed"
    assert measuring.path_of({"warnings": ["compiled without love"]}) == ""


def row(t: int, **fields: Any) -> dict[str, Any]:
    return {"t": t, "planned": 100, "began": 100, "lateness_p50": 0.1, **fields}


def test_a_stage_is_judged_without_its_ends() -> None:
    rows = [row(t) for t in range(14)]
    rows[7] = row(7, began=0, lateness_p50=900.0)
    rows[9] = row(9, began=90, lateness_p50=0.3, lateness_p99=5.0)
    rows[13] = row(13, began=0, lateness_p50=None)
    found = measuring.stage_figures({"timeline": rows}, 1, 7)
    assert found == {"p50_ms": 0.1, "p50_worst_ms": 0.3, "p99_ms": 5.0, "p99_worst_ms": 5.0, "off_percent": 2.0}
    assert "p99_ms" not in measuring.stage_figures({"timeline": rows}, 0, 7)


def test_what_processor_it_is() -> None:
    assert machine.processor_model("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert machine.processor_model("")


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(Exception, match="http-1m: there are http-1k"):
        compare._scenarios("http-1k,http-1m")
    assert [each.name for each in compare._scenarios("memory,http-1k")] == ["http-1k", "memory"]


def test_kept_data_is_plain_json() -> None:
    assert json.loads(json.dumps(samples.to_json(everything())))["version"] == 1


def test_all_of_it_takes_less_than_half_an_hour() -> None:
    total = sum(
        scenarios.about_s(each, scenarios.clients_of(each, scenarios.PATHS), each.rounds, 6.0)
        for each in scenarios.SCENARIOS
    )
    assert total < 30 * 60


def test_requests_that_failed_are_not_asked_to_be_answered() -> None:
    assert samples.Sample("loads/compiled", 0, counts={"server": 9, "sent": 9}, failed=2).exact is True
    assert samples.Sample("loads/compiled", 0, counts={"server": 9, "sent": 9, "answered": 8}).exact is False


def test_a_path_without_a_name_is_held_to_no_paths_bars() -> None:
    part_ = part("http-1k", *rounds("wrk", 1.0), *loads("unnamed", 1.0))
    measured = {each.bar.name: each.path for each in bars.judge({"http-1k": part_}) if each.held is not None}
    assert measured == {"everything besides the engine": "unnamed", "summary's counts off the server's": "unnamed"}
