"""Submitting runs, looking at them, and steering them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from api_harness import PLAN, STEP, Api, problems
from loads.scheduler.api.steering import factor_of

from loads_queue.model.states import RunState


class TestSubmitting:
    def test_a_run_is_made_and_taken_up(self, api: Api) -> None:
        response = api.post("/runs", {"plan": PLAN, "owner": "ann", "project": "shop", "workers": 3, "env": {"A": "1"}})
        assert response.status_code == 201
        run = response.json["id"]
        assert response.headers["Location"].endswith(f"/api/v1/runs/{run}")
        assert response.json["state"] == "submitted"
        assert [each["id"] for each in api.get("/runs")["runs"]] == [run]
        assert api.get(f"/runs/{run}/live")["now"] is None
        api.turn()
        found = api.get(f"/runs/{run}")
        assert (found["state"], found["owner"], found["project"], found["plan"]) == (
            "waiting",
            "ann",
            "shop",
            "evening",
        )
        assert (found["document"], found["env"], found["workers"]) == (PLAN, {"A": "1"}, 3)
        assert [each["id"] for each in api.get("/runs")["runs"]] == [run]
        assert [each["what"] for each in api.get(f"/runs/{run}/events")["events"]] == ["submitted"]

    def test_the_same_id_is_the_same_run_before_and_after_it_is_taken_up(self, api: Api) -> None:
        first = api.post("/runs", {"plan": PLAN, "id": "nightly-7", "owner": "ann"})
        again = api.post("/runs", {"plan": {**PLAN, "name": "other"}, "id": "nightly-7", "owner": "bob"})
        assert (first.status_code, again.status_code) == (201, 200)
        api.turn()
        third = api.post("/runs", {"plan": PLAN, "id": "nightly-7"})
        assert third.status_code == 200 and third.json["owner"] == "ann" and third.json["plan"] == "evening"
        api.turn()
        assert len(api.get("/runs")["runs"]) == 1

    def test_the_id_of_a_deleted_run_is_not_taken_again(self, api: Api) -> None:
        api.running(RunState.FINISHED)
        assert api.call("DELETE", "/runs/r1").status_code == 202
        api.turn()
        assert api.call("GET", "/runs/r1").status_code == 404
        response = api.post("/runs", {"plan": PLAN, "id": "r1"})
        assert response.status_code == 409 and "deleted" in response.json["detail"]

    @pytest.mark.parametrize("run", ["", "a b", "../x", "x" * 101, "-x", "ä", ".", "a\nb"])
    def test_what_is_no_id(self, refusing: Api, run: str) -> None:
        assert "id" in problems(refusing.post("/runs", {"plan": PLAN, "id": run}))

    def test_every_problem_of_a_plan_is_listed(self, api: Api) -> None:
        step = {**STEP, "load": {"rate": "fast", "for": "2 parsecs"}, "colour": "red"}
        response = api.post(
            "/runs", {"plan": {"name": "p", "steps": [step], "thresholds": ["p95 <"]}, "files": {"a.csv": "0" * 64}}
        )
        assert response.status_code == 422
        found = problems(response)
        assert {"steps[0].load.rate", "steps[0].load.for", "steps[0].colour", "thresholds[0]", "files['a.csv']"} <= set(
            found
        )
        assert "5 problems" not in response.json["detail"] or len(found) == 5
        assert api.get("/runs") == {"runs": []}

    def test_files_that_were_not_sent(self, api: Api) -> None:
        plan = {"name": "p", "steps": [{**STEP, "data": {"file": "users.csv"}}]}
        assert "was not sent along" in problems(api.post("/runs", {"plan": plan}))["files"]
        digest = api.files.put(b"name\nann\n")
        assert api.post("/runs", {"plan": plan, "files": {"users.csv": digest}}).status_code == 201
        assert "files.users.csv.value" in problems(api.post("/runs", {"plan": plan, "files": {"users.csv": "../../x"}}))

    def test_more_shards_than_may_be_in_flight(self, api: Api) -> None:
        step = {**STEP, "workers": "auto", "load": {**STEP["load"], "max_in_flight": 2}}  # type: ignore[dict-item]
        response = api.post("/runs", {"plan": {"name": "p", "steps": [step]}, "workers": 5})
        assert "steps[0].load.max_in_flight" in problems(response)

    def test_priority_is_the_plans_unless_given(self, api: Api) -> None:
        plan = {**PLAN, "priority": 7}
        made = [api.post("/runs", {"plan": plan}).json, api.post("/runs", {"plan": plan, "priority": -3}).json]
        assert [each["priority"] for each in made] == [7, -3]

    @pytest.mark.parametrize("field", ["owner", "project", "priority", "workers", "env", "files", "plan"])
    @pytest.mark.parametrize("value", [None, 1.5, [], True, {"a": {}}, "x" * 300])
    def test_a_wrong_type_is_refused_and_never_a_fault(self, refusing: Api, field: str, value: Any) -> None:
        response = refusing.post("/runs", {"plan": PLAN, field: value})
        assert response.status_code == 422, response.text


class TestLooking:
    def test_the_live_view_has_what_the_screen_shows(self, api: Api) -> None:
        api.running()
        found = api.get("/runs/r1/live")
        assert (found["state"], found["final"], found["steps"][0]["name"]) == ("running", False, "only")
        assert found["now"]["ledger"]["started"] == 3 and found["now"]["length_s"] == 2.0
        assert [worker["name"] for worker in found["workers"]] == ["w"]

    def test_looks_that_are_close_together_cost_the_store_one(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        api.running()
        first = api.get("/runs/r1/live")
        monkeypatch.setattr("loads.scheduler.reader.Reader.run_view", lambda *_: pytest.fail("asked again"))
        assert api.get("/runs/r1/live") == first

    def test_a_run_that_goes_on_has_no_summary_but_a_partial_one(self, api: Api) -> None:
        api.running()
        response = api.call("GET", "/runs/r1/summary")
        assert response.status_code == 409 and "partial" in response.json["detail"]
        assert api.get("/runs/r1/summary", partial="true")["ledger"]["started"] == 3

    def test_a_finished_run_has_the_summary_that_the_scheduler_wrote(self, api: Api) -> None:
        api.running(RunState.FINISHED)
        assert api.call("GET", "/runs/r1/summary").status_code == 200
        api.store.put_summary("r1", "passed", 0, {"verdict": "passed", "timeline": [{"t": 0}, {"t": 1}]})
        assert api.get("/runs/r1/summary")["verdict"] == "passed"
        assert api.get("/runs/r1/timeline", since=1) == {"timeline": [{"t": 1}]}
        assert (api.get("/runs/r1")["verdict"], api.get("/runs/r1")["exit_code"]) == ("passed", 0)

    def test_the_timeline_of_a_run_that_goes_on(self, api: Api) -> None:
        api.running()
        assert [(row["t"], row["started"]) for row in api.get("/runs/r1/timeline")["timeline"]] == [(0, 2), (1, 1)]

    def test_events_one_after_another(self, api: Api) -> None:
        api.running()
        events = api.get("/runs/r1/events")["events"]
        assert [(each["who"], each["what"]) for each in events] == [("ann", "submitted"), ("", "started on 1 workers")]
        assert api.get("/runs/r1/events", after=events[0]["id"])["events"] == events[1:]

    @pytest.mark.parametrize("what", ["", "/live", "/summary", "/timeline", "/events"])
    def test_a_run_that_is_not_there(self, refusing: Api, what: str) -> None:
        response = refusing.call("GET", f"/runs/nobody{what}")
        assert response.status_code == 404 and "nobody" in response.json["detail"]

    def test_lists_by_state_and_in_pages(self, api: Api) -> None:
        api.running(RunState.FINISHED)
        api.post("/runs", {"plan": PLAN, "id": "new"})
        assert [each["id"] for each in api.get("/runs")["runs"]] == ["new", "r1"]
        assert [each["id"] for each in api.get("/runs", state="submitted")["runs"]] == ["new"]
        api.turn()
        assert [each["id"] for each in api.get("/runs", state="active")["runs"]] == ["new"]
        assert [each["id"] for each in api.get("/runs", state="finished")["runs"]] == ["r1"]
        assert len(api.get("/runs", limit=1)["runs"]) == 1 and len(api.get("/runs", offset=1)["runs"]) == 1
        assert api.call("GET", "/runs?state=nonsense").status_code == 422
        assert api.call("GET", "/runs?limit=0").status_code == 422
        assert api.call("GET", "/runs?limit=x&offset=-1").status_code == 422

    def test_the_cluster_at_a_glance(self, api: Api) -> None:
        api.running()
        found = api.get("/info")
        assert (found["active"], found["finished"], found["dead_letters"]) == (1, 0, 0)
        assert found["scheduler"]["holder"] == "here.1" and found["scheduler"]["epoch"] == 1
        (worker,) = api.get("/workers")["workers"]
        assert (worker["name"], worker["slots"], worker["free"], worker["host"]) == ("w", 2, 1, "host")


class TestSteering:
    def order(self, api: Api) -> tuple[Any, ...]:
        (found,) = api.store.orders()
        return found.run, found.action, found.args, found.who

    def test_what_is_asked_is_ordered(self, api: Api) -> None:
        api.running()
        response = api.post("/runs/r1/abort", {"who": "ann", "terminate": True})
        assert response.status_code == 202 and response.json["action"] == "abort"
        assert self.order(api) == ("r1", "abort", {"terminate": True}, "ann")
        api.turn()
        assert api.get("/runs/r1")["state"] == "stopping"

    def test_an_empty_body_will_do(self, api: Api) -> None:
        api.running()
        assert api.call("POST", "/runs/r1/pause").status_code == 202
        assert self.order(api) == ("r1", "pause", {}, "the API")

    @pytest.mark.parametrize(
        ("factor", "exact"), [(1.5, "3/2"), ("3/2", "3/2"), ("150%", "3/2"), (0, "0"), ("0.1", "1/10")]
    )
    def test_adjusting_is_exact(self, api: Api, factor: Any, exact: str) -> None:
        api.running()
        assert api.post("/runs/r1/adjust", {"factor": factor, "step": "only"}).status_code == 202
        assert self.order(api)[2] == {"step": "only", "factor": exact}

    @pytest.mark.parametrize(
        "factor", [-1, "x", "", None, True, [], "1/0", "1e400", "nan", "inf", 1001, "1/3000000001"]
    )
    def test_what_is_no_factor(self, running: Api, factor: Any) -> None:
        assert "factor" in problems(running.post("/runs/r1/adjust", {"factor": factor}))
        assert running.store.orders() == []

    def test_every_problem_of_an_adjustment(self, api: Api) -> None:
        api.running()
        assert set(problems(api.post("/runs/r1/adjust", {"factor": "x", "step": "y"}))) == {"factor", "step"}

    @pytest.mark.parametrize("action", ["pause", "resume", "adjust"])
    def test_a_run_that_is_over_can_not_be_steered(self, api: Api, action: str) -> None:
        api.running(RunState.FINISHED)
        assert api.post(f"/runs/r1/{action}", {"factor": 1} if action == "adjust" else {}).status_code == 409

    def test_aborting_a_run_that_is_over_is_done_already(self, api: Api) -> None:
        api.running(RunState.FINISHED)
        response = api.post("/runs/r1/abort")
        assert (response.status_code, response.json["state"]) == (200, "finished")
        assert api.store.orders() == []

    def test_only_a_finished_run_is_deleted(self, api: Api) -> None:
        api.running()
        response = api.call("DELETE", "/runs/r1")
        assert response.status_code == 409 and "abort" in response.json["detail"]

    @pytest.mark.parametrize("action", ["abort", "pause", "resume", "adjust"])
    def test_a_run_that_is_not_there(self, refusing: Api, action: str) -> None:
        assert refusing.post(f"/runs/x/{action}", {"factor": 1} if action == "adjust" else {}).status_code == 404

    def test_who_asks_is_one_line(self, api: Api) -> None:
        api.running()
        assert "who" in problems(api.post("/runs/r1/abort", {"who": "ann\x1b[31m"}))


def test_a_job_that_waits_can_be_aborted_before_the_scheduler_has_seen_it(api: Api) -> None:
    api.post("/runs", {"plan": PLAN, "id": "new"})
    assert api.post("/runs/new/abort").status_code == 202
    api.turn()
    assert api.get("/runs/new")["outcome"] == "aborted"


def test_factors_are_whole_fractions() -> None:
    assert factor_of("12.5%") == Fraction(1, 8)
    assert factor_of(1e-9) == Fraction(1, 10**9)
