"""What an engine is told first: the offer, the plan's files as local paths, and the secrets that its spec names.

Secrets are named in a spec as ``${secret.NAME}`` and come from the worker's environment as ``LOADS_SECRET_NAME``.
They go to the engine over its private descriptor, and into no message, log or environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from loads_queue.files import FileStore, FileStoreError
from loads_queue.messages import LoadStep

from .permits import AHEAD_NS

SECRET_PREFIX = "LOADS_SECRET_"
ALLOWED_TARGETS = "LOADS_ALLOWED_TARGETS"
ENGINE_PATH = "LOADS_ENGINE_PATH"
_PLACE = re.compile(r"\$\$|\$\{([^}]*)\}")
_SECRET = re.compile(r"(?<![\w.])secret\.([A-Za-z_]\w*)")


class NotPrepared(Exception):
    """What an offer needs is not here; the text is for people and holds no secret."""


def prepare(offer: LoadStep, worker: str, files: FileStore, environ: Mapping[str, str]) -> dict[str, Any]:
    """The ``spec`` line for an offer's engine; reads and verifies files. Raises NotPrepared."""
    try:
        spec = _spec(offer, files)
        paths = {name: str(files.get(digest)) for name, digest in offer.files.items()}
    except FileStoreError as error:
        raise NotPrepared(f"a file of the plan is not here: {error}") from error
    return {
        "type": "spec",
        "run": offer.run,
        "step": offer.step,
        "shard": offer.shard,
        "shards": offer.shards,
        "attempt": offer.attempt,
        "worker": worker,
        "spec": spec,
        "load": offer.load,
        "files": paths,
        "env": dict(offer.env),
        "secrets": _secrets(spec, worker, environ),
        "allowed_targets": environ.get(ALLOWED_TARGETS, ""),
        "path": environ.get(ENGINE_PATH, "auto"),
        "delay_ns": offer.delay_ns,
        "max_in_flight": offer.max_in_flight,
        "max_lateness_ns": offer.max_lateness_ns,
        "graceful_stop_ns": offer.graceful_stop_ns,
        "graceful_ramp_down_ns": offer.graceful_ramp_down_ns,
        "run_max_time_ns": offer.run_max_time_ns,
        "seed": offer.seed,
    }


MOST_LOOPS = 10
"""So many passes of a ``loop`` are permitted from the first, before anything was measured."""


def secret_names(value: object) -> set[str]:
    """The names of all secrets that a spec's texts ask for."""
    places = (match[1] for text in _texts(value) for match in _PLACE.finditer(text) if match[1])
    return {name for place in places for name in _SECRET.findall(place)}


def requests_per_pass(spec: object) -> int:
    """How many requests one pass of a scenario makes at most, redirects apart; 0 where it says nothing of requests.

    Of a session that lasts, those of its first seconds: what follows is permitted by how fast it turns out to be.
    """
    if isinstance(spec, list):
        return sum(requests_per_pass(action) for action in spec)
    if not isinstance(spec, Mapping):
        return 0
    match spec.get("type"):
        case "request":
            return 1
        case "one_of":
            return max((requests_per_pass(branch.get("do")) for branch in spec.get("branches", ())), default=0)
        case "repeat":
            return int(spec.get("times", 1)) * requests_per_pass(spec.get("do"))
        case "send":
            return int(spec.get("reply") is not None)
        case "expect" | "ping":
            return 1
        case "loop":
            times = spec.get("times")
            return min(MOST_LOOPS if times is None else int(times), MOST_LOOPS) * requests_per_pass(spec.get("do"))
        case "every":
            passes = min(int(spec.get("for_ns") or AHEAD_NS), AHEAD_NS) // max(1, int(spec.get("period_ns", 1))) + 1
            return passes * requests_per_pass(spec.get("do"))
    handshake = int("subprotocols" in spec)
    return handshake + requests_per_pass(spec.get("before")) + requests_per_pass(spec.get("do"))


def _spec(offer: LoadStep, files: FileStore) -> Mapping[str, Any]:
    if offer.spec is not None:
        return offer.spec
    if offer.spec_digest is None:
        raise NotPrepared("the offer has neither a spec nor the digest of one")
    try:
        spec = json.loads(files.get(offer.spec_digest).read_bytes())
    except ValueError as error:
        raise NotPrepared(f"the spec {offer.spec_digest} is not JSON: {error}") from error
    if not isinstance(spec, dict):
        raise NotPrepared(f"the spec {offer.spec_digest} is not a JSON object")
    return spec


def _secrets(spec: object, worker: str, environ: Mapping[str, str]) -> dict[str, str]:
    names = sorted(secret_names(spec))
    missing = [f"{SECRET_PREFIX}{name}" for name in names if f"{SECRET_PREFIX}{name}" not in environ]
    if missing:
        raise NotPrepared(
            f"worker {worker} lacks secrets of the plan: set {', '.join(missing)} in its environment and start it again"
        )
    return {name: environ[f"{SECRET_PREFIX}{name}"] for name in names}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
