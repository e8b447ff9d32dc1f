"""What an engine is told first: files by digest, secrets by name, and what is said where one is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from loads.workers.engine_spec import NotPrepared, prepare, requests_per_pass, secret_names

from loads_queue.files import FileStore
from tests.agent.world import offer


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def test_the_line_has_the_offer_and_local_paths(store: FileStore) -> None:
    digest = store.put(b"page\n1\n")
    told = offer(files={"pages.csv": digest}, seed=7, shard=2, shards=3, graceful_ramp_down_ns=5, spec={"do": []})
    line = prepare(told, "w1", store, {})
    assert Path(line["files"]["pages.csv"]).read_bytes() == b"page\n1\n"
    wanted = {"type": "spec", "seed": 7, "shard": 2, "shards": 3, "graceful_ramp_down_ns": 5, "worker": "w1"}
    assert wanted.items() <= line.items() and line["spec"] == {"do": []} and line["secrets"] == {}
    assert line["path"] == "auto"
    assert prepare(told, "w1", store, {"LOADS_ENGINE_PATH": "greenlets"})["path"] == "greenlets"


def test_a_large_spec_comes_from_the_store(store: FileStore) -> None:
    digest = store.put(json.dumps({"do": [1]}).encode())
    assert prepare(offer(spec=None, spec_digest=digest), "w1", store, {})["spec"] == {"do": [1]}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_spec_that_is_none_is_said_to_be(store: FileStore, content: bytes) -> None:
    with pytest.raises(NotPrepared, match="not"):
        prepare(offer(spec=None, spec_digest=store.put(content)), "w1", store, {})


def test_a_file_that_is_not_here_is_named(store: FileStore) -> None:
    digest = hashlib.sha256(b"elsewhere").hexdigest()
    with pytest.raises(NotPrepared, match=digest):
        prepare(offer(files={"ca.pem": digest}), "w1", store, {})


def test_an_offer_without_any_spec_is_refused(store: FileStore) -> None:
    with pytest.raises(NotPrepared, match="neither a spec nor"):
        prepare(offer(spec=None), "w1", store, {})


def test_secrets_come_from_the_environment_and_only_those_asked_for(store: FileStore) -> None:
    spec = {"headers": [["Authorization", "Bearer ${secret.API_TOKEN}"]]}
    environ = {"LOADS_SECRET_API_TOKEN": "s3cret", "LOADS_SECRET_OTHER": "more"}
    assert prepare(offer(spec=spec), "w1", store, environ)["secrets"] == {"API_TOKEN": "s3cret"}


def test_the_key_of_a_client_certificate_is_one_of_them_and_its_certificate_a_file(store: FileStore) -> None:
    spec = {"tls": {"verify": True, "ca": None, "cert": "client.pem", "key": "${secret.CLIENT_KEY}"}}
    told = offer(spec=spec, files={"client.pem": store.put(b"certificate")})
    line = prepare(told, "w1", store, {"LOADS_SECRET_CLIENT_KEY": "-----BEGIN"})
    assert line["secrets"] == {"CLIENT_KEY": "-----BEGIN"} and line["spec"] == spec
    with pytest.raises(NotPrepared, match="lacks secrets of the plan: set LOADS_SECRET_CLIENT_KEY in its environment"):
        prepare(told, "w1", store, {})


def test_missing_secrets_are_all_named_and_no_other_is_shown(store: FileStore) -> None:
    spec = {"a": "${secret.ONE} ${secret.TWO} ${secret.THREE}"}
    with pytest.raises(NotPrepared) as caught:
        prepare(offer(spec=spec), "w1", store, {"LOADS_SECRET_TWO": "hush"})
    text = str(caught.value)
    assert "LOADS_SECRET_ONE, LOADS_SECRET_THREE" in text and "hush" not in text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("${secret.A}", {"A"}),
        ("x${ secret.A }y${secret.B_2}", {"A", "B_2"}),
        ("$${secret.A}", set()),
        ("$$${secret.A}", {"A"}),
        ("${fn.base64(secret.A)}", {"A"}),
        ("${var.secret.A}", set()),
        ("${var.mysecret} secret.A", set()),
        ("${row.a}", set()),
    ],
)
def test_which_secrets_a_text_names(text: str, names: set[str]) -> None:
    assert secret_names({"do": [{"json": {text: 1}}, text]}) == names


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ({}, 0),
        ({"do": [{"type": "request"}, {"type": "pause"}]}, 1),
        ({"before": [{"type": "request"}], "do": [{"type": "request"}]}, 2),
        ({"do": [{"type": "repeat", "times": 3, "do": [{"type": "request"}, {"type": "request"}]}]}, 6),
        (
            {"do": [{"type": "one_of", "branches": [{"do": []}, {"do": [{"type": "request"}, {"type": "request"}]}]}]},
            2,
        ),
    ],
)
def test_the_requests_of_a_pass(spec: dict[str, Any], count: int) -> None:
    assert requests_per_pass(spec) == count


SAY = {"type": "send", "reply": None}
ASK = {"type": "send", "reply": {"by": "order"}}


@pytest.mark.parametrize(
    ("action", "count"),
    [
        (SAY, 0),
        (ASK, 1),
        ({"type": "expect"}, 1),
        ({"type": "ping"}, 1),
        ({"type": "loop", "times": 3, "do": [ASK]}, 3),
        ({"type": "loop", "times": None, "do": [ASK, SAY]}, 10),
        ({"type": "every", "period_ns": 1_000_000_000, "for_ns": None, "do": [ASK]}, 9),
        ({"type": "every", "period_ns": 1_000_000_000, "for_ns": 2_000_000_000, "do": [ASK]}, 3),
    ],
)
def test_how_many_requests_a_session_makes_at_first(action: dict[str, Any], count: int) -> None:
    assert requests_per_pass({"subprotocols": [], "do": [action]}) == count + 1
