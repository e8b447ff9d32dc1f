"""How WebSocket connections are made: TLS, compression, local addresses, and what a successor opens again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from engine_harness import SECOND, EngineProcess, boottime, closed_load, counted_load
from test_engine_features import make_certificate
from ws_runs import check, run, sockets_of
from ws_server import WsServer, conversation, expect, hold, send

from loads_queue.model import profile


def ramp(users: int, up_s: float, flat_s: float) -> dict[str, object]:
    """Up in a straight line, and then flat."""
    stages = (
        profile.UserStage(Fraction(0), Fraction(users), int(up_s * SECOND)),
        profile.UserStage(Fraction(users), Fraction(users), int(flat_s * SECOND)),
    )
    return profile.to_wire(profile.ClosedLoad(stages))


class TestTakeover:
    def test_a_successor_opens_again_at_the_plans_pace(self) -> None:
        """20 users over 2 s, and the successor comes when all of them should be there."""
        with WsServer() as server:
            engine = EngineProcess("websocket")
            try:
                engine.spec(conversation(server.url, hold(3600)), ramp(20, 2, 4))
                engine.until_ready()
                engine.permit()
                engine.start(-3)
                began = boottime()
                engine.finish()
                check(engine)
            finally:
                engine.close()
            assert server.connections == 20
        by_second = [engine.rows[second].sockets for second in sorted(engine.rows)]
        opened = [found.opened for found in by_second if found is not None]
        assert max(opened) <= 13, opened
        total = engine.total
        planned = profile.from_wire(ramp(20, 2, 4)).user_ns(began - engine.base, 6 * SECOND)  # type: ignore[union-attr]
        # The ramp again is a triangle: 20 users come 2 s late, one second on average.
        assert total.missed_user_ns == pytest.approx(19 * SECOND, rel=0.1)
        assert total.held_ns + total.missed_user_ns == pytest.approx(planned, abs=2 * SECOND)

    def test_users_that_the_plan_has_at_once_are_there_at_once(self) -> None:
        with WsServer() as server:
            engine = EngineProcess("websocket")
            try:
                engine.spec(conversation(server.url, hold(3600)), closed_load(20, 2))
                engine.until_ready()
                engine.permit()
                engine.start(-1)
                engine.finish()
            finally:
                engine.close()
        assert engine.total.missed_user_ns == 0 and engine.total.ok == 20

    def test_sessions_of_users_that_are_no_longer_planned_close(self) -> None:
        stages = (
            profile.UserStage(Fraction(10), Fraction(10), SECOND),
            profile.UserStage(Fraction(10), Fraction(0), SECOND),
            profile.UserStage(Fraction(0), Fraction(0), SECOND),
        )
        with WsServer() as server:
            engine = run(conversation(server.url, hold(3600)), profile.to_wire(profile.ClosedLoad(stages)))
            assert server.closes == [(1000).to_bytes(2)] * 10
        assert (engine.total.ok, engine.total.interrupted) == (10, 0)
        lifetimes = sockets_of(engine).lifetime
        assert lifetimes.min < 1_500_000_000 < 1_700_000_000 < lifetimes.max < 2_500_000_000


class TestSources:
    def test_local_addresses_take_turns(self) -> None:
        with WsServer() as server:
            spec = conversation(server.url, send(), expect(), source_addresses=["127.0.0.2", "127.0.0.3"])
            engine = run(spec, counted_load(1, 4))
            assert server.peers == ["127.0.0.2", "127.0.0.3"] * 2
        assert engine.total.ok == 4

    def test_an_address_of_another_host_is_told_at_once(self) -> None:
        engine = EngineProcess("websocket")
        try:
            engine.spec(conversation("ws://127.0.0.1:9", source_addresses=["192.0.2.7"]), counted_load(1, 1))
            end = engine.finish()
        finally:
            engine.close()
        assert end["cause"] == "failed"
        assert "source_addresses: 192.0.2.7 is no address of this host" in end["detail"]


class TestTls:
    def test_over_tls(self, tmp_path: Path) -> None:
        cert, context = make_certificate(tmp_path, "127.0.0.1")
        with WsServer(context=context) as server:
            tls = {"verify": True, "ca": "ca.pem"}
            big = send("z" * 3_000_000)
            spec = conversation(server.url, send(), expect(), big, expect("text", "zzz"), tls=tls, max_message=1 << 24)
            engine = run(spec, counted_load(2, 2), files={"ca.pem": str(cert)})
        assert engine.total.ok == 4 and engine.total.series["connect"].tls.count == 4

    def test_a_certificate_that_is_not_trusted(self, tmp_path: Path) -> None:
        _, context = make_certificate(tmp_path, "127.0.0.1")
        with WsServer(context=context) as server:
            engine = run(conversation(server.url, send()), counted_load(1, 1))
        (error,) = engine.total.series["connect"].errors
        assert error.startswith("tls:") and engine.total.failed == 1
