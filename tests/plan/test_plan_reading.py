"""What a right plan becomes: loads, defaults, the engine's scenario, names, warnings."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from loads_queue.model.plan import Plan, Step, load_plan
from loads_queue.model.plan_step import FileFacts
from loads_queue.model.profile import ClosedLoad, IterationsLoad, OpenLoad, RateStage, UserStage
from loads_queue.model.scenario import HttpScenario, OneOf, Pause, Repeat, Request
from loads_queue.model.units import SECOND


def plan_of(env: dict[str, object] | None = None, plan: dict[str, Any] | None = None, **step: Any) -> Plan:
    step.setdefault("http", {"base_url": "http://h", "do": [{"get": "/"}]})
    return load_plan({"steps": [step], **(plan or {})}, env)


def step_of(**step: Any) -> Step:
    return plan_of(**step).steps[0]


def scenario_of(env: dict[str, object] | None = None, **http: Any) -> HttpScenario:
    http.setdefault("do", [{"get": "/"}])
    return HttpScenario.from_wire(plan_of(env, http={"base_url": "http://h", **http}).steps[0].spec)


def request_of(action: dict[str, Any], **http: Any) -> Request:
    (found,) = scenario_of(do=[action], **http).do
    assert isinstance(found, Request)
    return found


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (
            {"stages": [{"rate": [0, 50], "for": "30s"}, {"rate": "300/m", "for": 5, "name": "steady"}]},
            OpenLoad(
                (
                    RateStage(Fraction(0), Fraction(50), 30 * SECOND),
                    RateStage(Fraction(5), Fraction(5), 5 * SECOND, "steady"),
                )
            ),
        ),
        ({"rate": 100, "for": "30s"}, OpenLoad((RateStage(Fraction(100), Fraction(100), 30 * SECOND),))),
        ({"rate": "0.5", "iterations": 10}, OpenLoad((RateStage(Fraction(1, 2), Fraction(1, 2), 0),), iterations=10)),
        ({"users": [0, 20], "for": "1m"}, ClosedLoad((UserStage(Fraction(0), Fraction(20), 60 * SECOND),))),
        (
            {"stages": [{"users": 2, "for": 1}], "pace": "2m"},
            ClosedLoad((UserStage(Fraction(2), Fraction(2), SECOND),), pace_ns=120 * SECOND),
        ),
        ({"users": 20, "iterations": 10}, IterationsLoad(((20, 10),))),
        ({"users": 20, "iterations": 10, "shared": True, "pace": 1}, IterationsLoad(((20, 10),), True, SECOND)),
        ({"iterations": 7}, IterationsLoad(((1, 7),))),
        (
            {"cycles": [{"users": 10, "iterations": 5}, {"users": 20, "iterations": 5}]},
            IterationsLoad(((10, 5), (20, 5))),
        ),
    ],
)  # fmt: skip
def test_loads(load: dict[str, Any], expected: object) -> None:
    assert step_of(load=load).load == expected


def test_no_load_is_one_user_once() -> None:
    assert step_of().load == IterationsLoad(((1, 1),))


def test_jitter_takes_the_seed() -> None:
    load = {"rate": 10, "for": 10, "arrivals": "jittered"}
    first, second = (plan_of(plan={"seed": seed}, load=load).steps[0].load for seed in (1, 2))
    assert isinstance(first, OpenLoad)
    assert (first.arrivals, first.seed) == ("jittered", 1)
    assert first != second
    assert plan_of(plan={"seed": 1}, load=load, seed=9).steps[0].seed == 9


def test_defaults() -> None:
    plan = plan_of(load={"rate": 1, "for": "1m"})
    step = plan.steps[0]
    assert (plan.name, plan.ready_timeout_ns, plan.seed) == ("plan", 30 * SECOND, 0)
    assert [threshold.expression for threshold in plan.thresholds] == ["iteration:error_rate < 100%"]
    assert (step.name, step.engine, step.workers, step.region, step.delay_ns) == ("step 1", "http", None, "any", 0)
    assert (step.max_in_flight, step.max_lateness_ns) == (10_000, 30 * SECOND)
    assert (step.graceful_stop_ns, step.graceful_ramp_down_ns) == (30 * SECOND, 30 * SECOND)
    assert step.run_max_time_ns == 90 * SECOND
    assert step.spec["timeout_ns"] == 30 * SECOND
    assert (step.spec["redirects"], step.spec["cookies"], step.spec["tls"]["verify"]) == (5, True, True)
    assert (step.spec["tls"]["ca"], step.spec["tls"]["cert"], step.spec["tls"]["key"]) == (None, None, None)
    assert step.spec["connections"] == {"keep_alive": True, "per_user": 8, "reuse": True}
    assert step.spec["dns"] == {"resolve": "cached", "pick": "rotate", "hosts": []}


def test_the_longest_time_of_a_step() -> None:
    assert step_of(load={"users": 1, "iterations": 1}).run_max_time_ns == 600 * SECOND
    assert step_of(load={"users": 1, "for": 10, "graceful_stop": 5}).run_max_time_ns == 15 * SECOND
    assert step_of(run_max_time=0).run_max_time_ns == 0
    assert step_of(run_max_time="2m").run_max_time_ns == 120 * SECOND


def test_lateness_is_the_timeout_unless_given() -> None:
    http = {"base_url": "http://h", "timeout": "7s", "do": [{"get": "/"}]}
    assert step_of(load={"rate": 1, "for": 1}, http=http).max_lateness_ns == 7 * SECOND
    assert step_of(load={"rate": 1, "for": 1, "max_lateness": 0}, http=http).max_lateness_ns == 0


@pytest.mark.parametrize(
    ("load", "slots", "shards"),
    [
        ({"rate": 5000, "for": 1}, None, 1),
        ({"rate": 5001, "for": 1}, None, 2),
        ({"rate": [0, 20000], "for": 1}, None, 4),
        ({"rate": 20000, "for": 1}, 3, 3),
        ({"rate": 20000, "for": 1}, 0, 1),
        ({"users": 1001, "for": 1}, None, 2),
        ({"users": 2500, "iterations": 1}, None, 3),
        ({"rate": 0, "for": 1}, None, 1),
    ],
)
def test_shards_by_the_peak(load: dict[str, Any], slots: int | None, shards: int) -> None:
    plan = plan_of(load=load)
    assert plan.shards_of(plan.steps[0], slots) == shards


def test_given_workers_stand() -> None:
    plan = plan_of(load={"rate": 1, "for": 1}, workers="7")
    assert plan.shards_of(plan.steps[0], 2, 5) == 7
    plan = plan_of(load={"rate": 1, "for": 1})
    assert plan.shards_of(plan.steps[0], 2, 5) == 5


def test_the_base_path_goes_into_the_urls() -> None:
    http = {
        "base_url": "HTTP://Host:80/a b$/".replace(" ", ""),
        "do": [{"get": "/x?y=${RUN_ID}"}, {"get": "https://o/z"}],
    }
    scenario = HttpScenario.from_wire(step_of(http=http).spec)
    assert scenario.base_url == "http://host:80"
    assert [request.url for request in scenario.do if isinstance(request, Request)] == [
        "/ab$$/x?y=${RUN_ID}",
        "https://o/z",
    ]


@pytest.mark.parametrize(
    ("url", "name", "sent"),
    [
        ("/products/${user.number}?x=1", "GET /products/{user.number}", "/products/${user.number}?x=1"),
        ("/é/$$1", "GET /é/$1", "/%C3%A9/$$1"),
        ("/%20x", "GET /%20x", "/%20x"),
        ("/${fn.random_int(1,6)}", "GET /{fn.random_int(1, 6)}", "/${fn.random_int(1, 6)}"),
        ("http://o:8080/z?q", "GET http://o:8080/z", "http://o:8080/z?q"),
        ("http://${user.number}.o/", "GET http://{user.number}.o/", "http://${user.number}.o/"),
    ],
)
def test_urls_and_their_series(url: str, name: str, sent: str) -> None:
    found = request_of({"get": url})
    assert (found.name, found.url) == (name, sent)


def test_a_request_in_full() -> None:
    found = request_of(
        {
            "method": "PURGE", "url": "/", "name": "n", "headers": {"X": 1, "Y": "${iteration.id}"}, "timeout": 2,
            "form": {"a": [1, "${user.number}"], "b": True}, "auth": {"basic": ["u", "${secret.P}"]},
            "check": {
                "status": [200, "3xx", "400-404"], "body": "${not.a.name}", "json": {"a": {"exists": True}, "b": None},
            },
            "extract": {"v": {"regex": "${x}(.)"}, "w": {"header": "ETag"}}, "on_error": "end_iteration",
        }
    )  # fmt: skip
    assert (found.method, found.url, found.name, found.timeout_ns) == ("PURGE", "/", "n", 2 * SECOND)
    assert found.headers == (("X", "1"), ("Y", "${iteration.id}"))
    assert found.body is not None
    assert (found.body.kind, found.body.value) == ("form", [["a", "1"], ["a", "${user.number}"], ["b", "true"]])
    assert found.auth is not None
    assert found.auth.basic == ("u", "${secret.P}")
    assert found.check.status == ((200, 200), (300, 399), (400, 404))
    assert found.check.body == "${not.a.name}"
    assert dict(found.check.json) == {"a": {"exists": True}, "b": None}
    assert [(each.var, each.kind, each.expr) for each in found.extract] == [
        ("v", "regex", "${x}(.)"),
        ("w", "header", "ETag"),
    ]
    assert found.on_error == "end_iteration"


def test_what_is_not_said_about_a_request() -> None:
    found = request_of({"get": "/"})
    assert (found.body, found.auth, found.timeout_ns, found.extract, found.on_error) == (
        None,
        None,
        None,
        (),
        "continue",
    )
    assert found.check.accepts_status(200)
    assert found.check.accepts_status(399)
    assert not found.check.accepts_status(400)


def test_the_other_actions() -> None:
    scenario = scenario_of(
        before=[{"pause": "1s"}],
        do=[
            {"pause": {"between": [1, "3s"]}},
            {"one_of": [{"weight": 3, "do": [{"get": "/a"}]}, {"do": [{"get": "/b"}]}]},
            {"repeat": 2, "do": [{"pause": 0}]},
        ],
    )
    assert scenario.before == (Pause(SECOND, SECOND),)
    pause, one_of, repeat = scenario.do
    assert pause == Pause(SECOND, 3 * SECOND)
    assert isinstance(one_of, OneOf)
    assert [branch.weight for branch in one_of.branches] == [3, 1]
    assert repeat == Repeat(2, (Pause(0, 0),))


def test_names_beat_one_another_in_order() -> None:
    document = {
        "env": {"A": "plan", "B": "plan", "URL": "http://${A}"},
        "steps": [
            {
                "env": {"B": "step", "C": "step ${A}"},
                "http": {"base_url": "${URL}", "do": [{"get": "/${B}/", "name": "${C}"}]},
            }
        ],
    }
    plan = load_plan(document, {"A": "run"})
    step = plan.steps[0]
    assert step.spec["base_url"] == "http://run"
    assert (step.spec["do"][0]["url"], step.spec["do"][0]["name"]) == ("/plan/", "step run")
    assert step.env == {"A": "run", "B": "plan", "URL": "http://run", "C": "step run"}
    assert [str(warning) for warning in plan.warnings] == [
        "steps[0].env.B: not used: the plan's or the run's value beats it"
    ]


def test_values_keep_their_type() -> None:
    plan = plan_of(
        {"TEXT": "5"},
        {"env": {"N": 5, "ON": True}},
        load={"users": "${TEXT}", "iterations": "${N}"},
        http={
            "base_url": "http://h",
            "cookies": "${ON}",
            "do": [{"post": "/", "json": ["${N}", "${TEXT}", "n${N}", "$$"]}],
        },
    )
    assert plan.steps[0].load == IterationsLoad(((5, 5),))
    assert plan.steps[0].spec["do"][0]["body"]["value"] == [5, "5", "n5", "$$"]


def test_a_secret_stays_a_reference() -> None:
    plan = plan_of({"TOKEN": "${secret.API}"}, http={"do": [{"get": "http://h/", "auth": {"bearer": "${TOKEN}"}}]})
    assert plan.steps[0].spec["do"][0]["auth"] == {"bearer": "${secret.API}"}


def test_files() -> None:
    asked: list[tuple[str, str]] = []

    def check(kind: str, name: str) -> FileFacts:
        asked.append((kind, name))
        return FileFacts(("a",), 5)

    http = {"base_url": "https://h", "tls": {"ca": "${CA}"}, "do": [{"get": "/${row.a}"}]}
    document = {"steps": [{"data": {"file": "d.csv"}, "http": http}]}
    plan = load_plan(document, {"CA": "ca.pem"}, check_file=check)
    assert plan.files == plan.steps[0].files == ("ca.pem", "d.csv")
    assert sorted(asked) == [("ca", "ca.pem"), ("data", "d.csv")]
    assert plan.steps[0].spec["data"] == {
        "file": "d.csv", "order": "sequential", "when_exhausted": "wrap", "per": "iteration",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("load", "pause", "warned"),
    [
        ({"rate": 100, "for": 1, "max_in_flight": 150}, "2s", True),
        ({"rate": 100, "for": 1, "max_in_flight": 200}, "2s", False),
        ({"users": 100, "for": 1}, "2s", False),
    ],
)
def test_pauses_beyond_max_in_flight_are_warned_of(load: dict[str, Any], pause: str, warned: bool) -> None:
    do = [
        {"get": "/"},
        {"one_of": [{"do": [{"pause": {"between": [0, pause]}}]}]},
        {"repeat": 2, "do": [{"pause": 0.5}]},
    ]
    warnings = [str(warning) for warning in plan_of(load=load, http={"base_url": "http://h", "do": do}).warnings]
    expected = (
        "steps[0].load.max_in_flight: 100 iterations a second that pause for 2s are 200 in flight, and max_in_flight "
        "is 150: the rest will be dropped"
    )
    assert warnings == ([expected] if warned else [])


def test_other_warnings() -> None:
    found = plan_of(load={"rate": 1, "for": 10}, run_max_time=5).warnings
    assert [str(each) for each in found] == ["steps[0].run_max_time: ends the step before its load does, after 10s"]
    (only,) = plan_of(load={"rate": 0, "for": 10}).warnings
    assert only.message == "this load starts no iteration at all"


def test_the_document_is_left_as_it_was() -> None:
    document = {"env": {"A": "x"}, "steps": [{"http": {"base_url": "http://${A}/p", "do": [{"get": "/"}]}}]}
    before = repr(document)
    assert load_plan(document) == load_plan(document)
    assert repr(document) == before


@pytest.mark.parametrize("key", ["base_url", "timeout_ns", "headers", "tls", "do", "data"])
def test_a_scenario_that_is_none(key: str) -> None:
    wire = dict(step_of().spec)
    with pytest.raises(ValueError):
        HttpScenario.from_wire({**wire, key: 1.5})
    del wire[key]
    with pytest.raises(ValueError):
        HttpScenario.from_wire(wire)


class TestHowARunIsKept:
    def test_defaults(self) -> None:
        plan = plan_of()
        assert (plan.start_at_ns, plan.priority, plan.on_worker_loss, plan.abort_when) == (None, 0, "recover", ())

    def test_given(self) -> None:
        given = {"start": "2026-01-31T22:00+01:00", "priority": "-${P}", "on_worker_loss": "fail"}
        plan = plan_of({"P": 7}, {**given, "abort_when": ["error_rate(step 1) > ${R}% for 10s"], "env": {"R": 20}})
        assert plan.start_at_ns == 1769893200 * SECOND
        assert (plan.priority, plan.on_worker_loss) == (-7, "fail")
        (condition,) = plan.abort_when
        assert (condition.expression, condition.for_ns) == ("error_rate(step 1) > 20% for 10s", 10 * SECOND)
        assert plan.warnings == ()

    def test_a_time_without_a_zone_is_read_as_utc_and_says_so(self) -> None:
        plan = plan_of({"DAY": "2026-01-31"}, {"start": "${DAY} 21:00"})
        assert plan.start_at_ns == 1769893200 * SECOND
        (warning,) = plan.warnings
        assert str(warning) == ("start: names no zone, and is read as UTC: '${DAY} 21:00' (write Z for UTC, or +02:00)")
