"""The plans' files and stored plans, and dead letters."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from api_harness import PLAN, STEP, TOKEN, Api, problems
from loads.scheduler.api import files

CONTENT = b"name\nann\nbob\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class TestFiles:
    def test_put_once_and_get(self, api: Api) -> None:
        assert api.call("HEAD", f"/files/{DIGEST}").status_code == 404
        assert api.call("PUT", f"/files/{DIGEST}", data=CONTENT).status_code == 201
        assert api.call("PUT", f"/files/{DIGEST}", data=CONTENT).status_code == 200
        response = api.call("GET", f"/files/{DIGEST}")
        assert response.data == CONTENT and response.content_type == "application/octet-stream"
        head = api.call("HEAD", f"/files/{DIGEST}")
        assert head.status_code == 200 and head.content_length == len(CONTENT) and not head.data

    def test_other_content_is_refused_and_leaves_nothing(self, api: Api) -> None:
        response = api.call("PUT", f"/files/{DIGEST}", data=CONTENT + b"x")
        assert response.status_code == 422 and "digest" in response.json["detail"]
        assert [path for path in api.files.folder.rglob("*") if path.is_file()] == []

    def test_an_empty_file(self, api: Api) -> None:
        digest = hashlib.sha256(b"").hexdigest()
        assert api.call("PUT", f"/files/{digest}").status_code == 201
        assert api.call("GET", f"/files/{digest}").data == b""

    @pytest.mark.parametrize(
        "name",
        ["x", "0" * 63, "0" * 65, "A" * 64, "..", "%2e%2e", "../token", "..%2f..%2ftoken", "%2fetc%2fpasswd",
         "0" * 62 + "/0", "0" * 63 + "%0a", "0" * 63 + "%00", "٠" * 64, f"{'0' * 64}/../../token"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
    def test_only_digests_are_names(self, refusing: Api, name: str, method: str) -> None:
        (Path(refusing.files.folder).parent / "token").write_text(TOKEN)
        response = refusing.call(method, f"/files/{name}", data=CONTENT if method == "PUT" else None)
        assert response.status_code in (400, 404, 405)
        assert TOKEN not in response.text
        assert not refusing.files.folder.exists()

    def test_a_file_that_is_too_large(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "LARGEST", 1000)
        response = api.call("PUT", f"/files/{DIGEST}", data=b"x" * 1001)
        assert response.status_code == 413
        chunked = api.call(
            "PUT",
            f"/files/{DIGEST}",
            input_stream=io.BytesIO(b"x" * 1001),
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert chunked.status_code == 413
        assert [path for path in api.files.folder.rglob("*") if path.is_file()] == []

    def test_files_may_be_larger_than_other_bodies(self, api: Api) -> None:
        content = bytes(9 << 20)
        assert api.call("PUT", f"/files/{hashlib.sha256(content).hexdigest()}", data=content).status_code == 201

    def test_a_damaged_file_is_not_handed_out(self, api: Api) -> None:
        api.call("PUT", f"/files/{DIGEST}", data=CONTENT)
        path = api.files.get(DIGEST)
        path.chmod(0o600)
        path.write_bytes(b"other")
        response = api.call("GET", f"/files/{DIGEST}")
        assert response.status_code == 500 and "damaged" in response.json["detail"]


class TestProjects:
    def store(self, api: Api, *plans: dict, name: str = "shop", **more: object) -> dict:
        response = api.post("/projects", {"name": name, "plans": [{"plan": plan} for plan in plans], **more})
        assert response.status_code == 200, response.text
        assert response.json is not None
        return dict(response.json)

    def test_plans_are_stored_and_kept(self, api: Api) -> None:
        assert self.store(api, PLAN)["added"] == ["evening"]
        other = {**PLAN, "steps": [{**STEP, "name": "changed"}]}
        again = self.store(api, other, {**PLAN, "name": "morning"})
        assert (again["added"], again["kept"], again["replaced"]) == (["morning"], ["evening"], [])
        assert [(each["reference"], each["steps"]) for each in api.get("/plans")["plans"]] == [
            ("shop/evening", ["only"]),
            ("shop/morning", ["only"]),
        ]
        assert self.store(api, other, replace=True)["replaced"] == ["evening"]
        assert api.get("/plans")["plans"][0]["steps"] == ["changed"]
        (project,) = api.get("/projects")["projects"]
        assert (project["name"], project["plans"]) == ("shop", ["evening", "morning"])

    def test_a_stored_plan_runs_by_name(self, api: Api) -> None:
        self.store(api, PLAN)
        for reference in ("shop/evening", "evening"):
            made = api.post("/runs", {"plan_ref": reference, "env": {"A": "1"}})
            assert made.status_code == 201 and made.json["project"] == "shop"
        api.turn()
        assert {each["state"] for each in api.get("/runs")["runs"]} == {"waiting"}

    def test_its_files_come_along(self, api: Api) -> None:
        digest = api.files.put(CONTENT)
        plan = {"name": "p", "steps": [{**STEP, "data": {"file": "users.csv"}}]}
        response = api.post("/projects", {"name": "shop", "plans": [{"plan": plan, "files": {"users.csv": digest}}]})
        assert response.status_code == 200
        made = api.post("/runs", {"plan_ref": "p"})
        assert made.json["files"] == {"users.csv": digest}

    def test_a_name_that_two_projects_have(self, api: Api) -> None:
        self.store(api, PLAN)
        self.store(api, PLAN, name="bank")
        response = api.post("/runs", {"plan_ref": "evening"})
        assert "bank/evening, shop/evening" in problems(response)["plan_ref"]
        assert api.post("/runs", {"plan_ref": "bank/evening"}).status_code == 201

    def test_a_name_that_nobody_has(self, api: Api) -> None:
        assert "no stored plan" in problems(api.post("/runs", {"plan_ref": "x"}))["plan_ref"]

    def test_problems_of_every_plan_and_nothing_is_stored(self, api: Api) -> None:
        body = {
            "name": "s",
            "plans": [{"plan": PLAN}, {"plan": {"steps": []}}, {"plan": {**PLAN, "x": 1}}, {"plan": PLAN}],
        }
        found = problems(api.post("/projects", body))
        assert {"plans[2].plan.x", "plans[3].plan.name"} <= set(found)
        assert any(path.startswith("plans[1].plan") for path in found)
        assert api.get("/projects") == {"projects": []}


class TestDeadLetters:
    def test_list_show_requeue_discard(self, api: Api) -> None:
        api.store.dead_letter("jobs", api.now, "not JSON", "{", "Job")
        api.store.dead_letter("reports", api.now, "unsigned", "\x1b[31m")
        listed = api.get("/dead-letters")["dead_letters"]
        assert [(each["id"], each["reason"]) for each in listed] == [(2, "unsigned"), (1, "not JSON")]
        assert all("body" not in each for each in listed)
        assert api.get("/dead-letters/2")["body"] == "\x1b[31m"
        assert len(api.get("/dead-letters", limit=1, offset=1)["dead_letters"]) == 1
        assert api.post("/dead-letters/1/requeue", {"who": "ann"}).status_code == 202
        assert api.call("DELETE", "/dead-letters/2").status_code == 202
        assert [(each.action, each.args, each.who) for each in api.store.orders()] == [
            ("requeue", {"id": 1}, "ann"),
            ("discard", {"id": 2}, "the API"),
        ]
        api.turn()
        assert api.get("/dead-letters")["dead_letters"] == []

    @pytest.mark.parametrize("ident", ["9", "0", "99999999999999999999999", "x", "-1"])
    def test_one_that_is_not_there(self, refusing: Api, ident: str) -> None:
        assert refusing.call("GET", f"/dead-letters/{ident}").status_code == 404
        assert refusing.call("DELETE", f"/dead-letters/{ident}").status_code == 404
