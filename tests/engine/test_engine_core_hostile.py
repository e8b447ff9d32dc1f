"""Every trick of ``test_engine_hostile``, with no eye on memory: `make fuzz-core` runs it under AddressSanitizer."""

from __future__ import annotations

from engine_harness import counted_load, request, run_engine, scenario
from engine_targets import ScriptedServer
from test_engine_hostile import CASES


def test_every_trick_played_on_many_users_at_once() -> None:
    with ScriptedServer({path: behaviour for path, (behaviour, _) in CASES.items()}) as server:
        short = {"/silent", "/slow"}
        actions = [request(path, name=path, timeout_ns=700_000_000 if path in short else None) for path in CASES]
        wanted = [action for action in actions if action["name"] not in ("/endless-body", "/bomb")]
        engine = run_engine(scenario(server.url, *wanted, request("/fine", name="/fine")), counted_load(8, 1))
        assert engine.end is not None and engine.end["cause"] == "finished"
        series = engine.total.series
        for action in wanted:
            assert series[action["name"]].errors == {CASES[action["name"]][1]: 8}
        assert series["/fine"].ok == 8
