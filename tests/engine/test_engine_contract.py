"""What every engine promises its agent: the protocol, the permit, and that each planned arrival is counted once."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest
from engine_harness import (
    FOREVER,
    SECOND,
    EngineProcess,
    boottime,
    closed_load,
    counted_load,
    open_load,
    pause,
    request,
    run_shards,
    scenario,
)
from engine_targets import DemoTarget, ScriptedServer
from loads.workers.engines.fence import NOTICE_NS

from loads_queue.model import profile


def begin(
    engine: EngineProcess, spec: dict, load: dict, permit: bool = True, first: int = 0, after_s: float = 0.1, **more
) -> None:
    engine.spec(spec, load, **more)
    engine.until_ready()
    if permit:
        engine.permit()
    engine.start(after_s, first)


class TestOpen:
    def test_every_arrival_is_started_and_the_target_counts_the_same(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        before = demo.counter()["total"]
        begin(engine, scenario(demo.url), open_load(200, 1.5))
        end = engine.finish()
        assert end["cause"] == "finished" and end["at_ns"] >= 1.5 * SECOND
        total, requests = engine.total, engine.requests
        assert (total.started, total.ok, total.began, total.completed) == (300, 300, 300, 300)
        assert (requests.attempted, requests.answered, requests.ok) == (300, 300, 300)
        assert demo.counter()["total"] - before == 300
        assert [engine.rows[second].started for second in (0, 1)] == [200, 100]
        assert engine.snapshots[-1]["totals"]["next"] == 300
        assert total.lateness.count == 300 and total.iteration_response.count == 300

    def test_shards_partition_the_arrivals(self, demo: DemoTarget) -> None:
        found = [engine.total.ok for engine in run_shards(scenario(demo.url), open_load(50, 0.5), 3)]
        assert found == [9, 8, 8]

    def test_rows_are_kept_by_the_second_in_which_arrivals_were_due(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        begin(engine, scenario(demo.url, request("/delay/700")), open_load(10, 1), delay_ns=2 * SECOND, after_s=-1.8)
        engine.finish()
        assert {second for second, row in engine.rows.items() if row.started} == {2}
        assert engine.rows[3].completed >= 6
        assert engine.rows[2].series["GET /delay/700"].attempted == 10

    def test_a_start_heard_late_misses_what_was_due(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), open_load(100, 2), after_s=-1.0)
        engine.finish()
        total = engine.total
        assert total.missed + total.started == 200
        assert 100 <= total.missed <= 170
        assert engine.rows[0].missed == 100

    def test_arrivals_below_first_are_others(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), open_load(100, 1), first=40)
        engine.finish()
        assert (engine.total.started, engine.total.missed) == (60, 0)

    def test_too_many_in_flight_are_dropped(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/400")), open_load(100, 0.3), max_in_flight=5)
        engine.finish()
        total = engine.total
        assert (total.ok, total.dropped_in_flight, total.started) == (5, 25, 5)

    def test_a_stalled_engine_drops_what_is_too_late(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), open_load(100, 1.5), max_lateness_ns=SECOND // 2)
        time.sleep(0.3)
        engine.process.send_signal(signal.SIGSTOP)
        time.sleep(0.9)
        engine.process.send_signal(signal.SIGCONT)
        engine.finish()
        total = engine.total
        assert total.started + total.dropped_late == 150
        assert total.dropped_late > 20
        assert total.lateness.max <= SECOND // 2

    def test_a_pause_of_the_profile_and_going_on(self, engine: EngineProcess, demo: DemoTarget) -> None:
        changes = [(SECOND // 2, 0, 1), (SECOND, 1, 2)]
        begin(engine, scenario(demo.url), open_load(100, 1.5))
        engine.send(type="adjust", changes=changes)
        engine.finish()
        stage = profile.RateStage(Fraction(100), Fraction(100), 3 * SECOND // 2)
        assert engine.total.started == profile.OpenLoad((stage,)).changed(changes).planned == 75

    def test_no_descriptor_left_is_a_drop_and_no_failure(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/600")), open_load(100, 0.4), after_s=0.3)
        used = len(os.listdir(f"/proc/{engine.process.pid}/fd"))
        resource.prlimit(engine.process.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
        engine.finish()
        total = engine.total
        assert (total.ok + total.dropped_resource, total.failed) == (40, 0)
        # Numbers of descriptors that are free below those in use serve too; the core may still have to open its two.
        assert 8 <= total.ok <= 13


class TestPermit:
    def test_without_one_everything_is_missed(self, engine: EngineProcess, demo: DemoTarget) -> None:
        before = demo.counter()["total"]
        begin(engine, scenario(demo.url), open_load(100, 0.5), permit=False)
        engine.finish()
        assert (engine.total.missed, engine.total.started) == (50, 0)
        assert demo.counter()["total"] == before

    def test_beyond_the_bound_on_arrivals_they_are_missed(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), open_load(100, 0.5), permit=False, after_s=0.2)
        engine.permit(iterations=20)
        engine.finish()
        assert (engine.total.started, engine.total.missed) == (20, 30)

    def test_what_fell_due_without_a_permit_is_never_caught_up(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), open_load(100, 1.2), permit=False, after_s=0.2)
        engine.permit(until=engine.base + 3 * SECOND // 10 + NOTICE_NS)
        time.sleep(1.1)
        engine.permit()
        engine.finish()
        total = engine.total
        assert total.started + total.missed == 120
        assert 30 <= total.started <= 66 and total.missed >= 54
        assert total.lateness.max < SECOND // 2

    def test_user_time_without_a_permit_is_missed_to_the_nanosecond(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        begin(engine, scenario(demo.url), closed_load(4, 1.2), permit=False, after_s=0.2)
        engine.permit(until=engine.base + 3 * SECOND // 10 + NOTICE_NS)
        time.sleep(0.9)
        engine.permit()
        engine.finish()
        total = engine.total
        late = engine.snapshots[-1]["totals"]["held_from_ns"]
        assert total.missed_user_ns >= 4 * SECOND // 10
        assert total.held_ns + total.missed_user_ns == 4 * (12 * SECOND // 10 - late)

    def test_requests_wait_at_their_bound_and_the_engine_asks_for_more(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        before = demo.counter()["total"]
        begin(engine, scenario(demo.url, *[request("/")] * 10), counted_load(1, 1), permit=False)
        engine.permit(requests=4)
        hungry = engine.until("snapshot")
        while not hungry["hungry"] or hungry["totals"]["attempted"] < 4:
            hungry = engine.until("snapshot")
        assert demo.counter()["total"] - before == 4
        engine.permit(requests=FOREVER)
        engine.finish()
        assert engine.requests.ok == 10

    def test_bounds_that_double_let_an_engine_start_slowly_and_go_on(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        begin(engine, scenario(demo.url), closed_load(5, 1), permit=False)
        bound = 10
        engine.permit(iterations=bound, requests=bound)
        while engine.end is None:
            line = engine.read()
            assert line is not None
            if line["type"] == "snapshot":
                assert line["totals"]["attempted"] <= bound
                if line["hungry"]:
                    bound *= 2
                    engine.permit(iterations=bound, requests=bound)
        assert engine.total.started > 100
        assert len(engine.snapshots) < 1.2 / 0.05 + 5  # Early ones are 50 ms apart.


class TestClosed:
    def test_users_go_round_and_the_time_they_were_held_is_exact(self, engine: EngineProcess, demo: DemoTarget) -> None:
        stages = (
            profile.UserStage(Fraction(0), Fraction(6), SECOND),
            profile.UserStage(Fraction(6), Fraction(2), SECOND // 2),
        )
        load = profile.ClosedLoad(stages)
        begin(engine, scenario(demo.url, request("/delay/20")), profile.to_wire(load), after_s=0.1)
        assert engine.finish()["cause"] == "finished"
        total = engine.total
        assert total.held_ns == load.user_ns(0, load.end_ns)
        assert total.started == total.ok > 50 and total.failed == 0
        assert engine.rows[0].users == 6
        totals = engine.snapshots[-1]["totals"]
        assert (totals["held_from_ns"], totals["covered_ns"], totals["next"]) == (0, load.end_ns, None)

    def test_pace_gives_due_times_and_skips_what_a_busy_user_can_not_take(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        begin(engine, scenario(demo.url, request("/delay/250")), closed_load(2, 1.0, pace_s=0.2), after_s=0.1)
        engine.finish()
        assert engine.total.started == 6  # Each at 0, 0.4 and 0.8 s.

    def test_a_user_on_its_way_out_may_finish_for_a_time(self, engine: EngineProcess, demo: DemoTarget) -> None:
        stages = (
            profile.UserStage(Fraction(4), Fraction(4), SECOND // 2),
            profile.UserStage(Fraction(1), Fraction(1), SECOND),
        )
        load = profile.to_wire(profile.ClosedLoad(stages))
        begin(engine, scenario(demo.url, request("/delay/900")), load, graceful_ramp_down_ns=SECOND // 10)
        engine.finish()
        assert (engine.total.interrupted, engine.total.ok) == (3, 2)
        assert engine.requests.interrupted == 3


class TestCounted:
    def test_each_user_takes_its_turns(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), counted_load(3, 7))
        assert engine.finish()["cause"] == "finished"
        assert (engine.total.ok, engine.snapshots[-1]["totals"]["remaining"]) == (21, 0)

    def test_shared_turns_are_taken_by_whoever_is_free(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), counted_load(3, 7, shared=True))
        engine.finish()
        assert engine.total.ok == 7

    def test_cycles_follow_one_another_in_a_shard(self, demo: DemoTarget) -> None:
        load = profile.IterationsLoad(((3, 2), (5, 1), (1, 4)))
        ok = [engine.total.ok for engine in run_shards(scenario(demo.url), profile.to_wire(load), 2)]
        assert ok == [load.shard(shard, 2).planned for shard in range(2)]
        assert sum(ok) == load.planned == 15

    def test_turns_below_first_are_others_and_the_rest_is_told(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/100")), counted_load(2, 10), first=4)
        time.sleep(0.4)
        engine.stop(1)
        assert engine.finish()["cause"] == "stopped"
        totals = engine.snapshots[-1]["totals"]
        assert totals["started"] + totals["remaining"] == 12 and totals["remaining"] > 0

    def test_each_users_turns_stay_below_the_bound(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), counted_load(4, 5), permit=False)
        engine.permit(iterations=2)
        while engine.until("snapshot")["totals"]["started"] < 8:
            continue
        assert engine.until("snapshot")["totals"]["started"] == 8
        engine.permit()
        engine.finish()
        assert engine.total.ok == 20


class TestEnd:
    def test_a_stop_lets_what_is_in_flight_finish(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/300")), open_load(20, 30))
        time.sleep(0.5)
        engine.stop(5)
        assert engine.finish(3)["cause"] == "stopped"
        total = engine.total
        assert total.interrupted == 0 and total.ok == total.started == engine.snapshots[-1]["totals"]["next"]

    def test_after_the_grace_the_rest_is_interrupted(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/20000")), open_load(20, 30))
        time.sleep(0.5)
        engine.stop(0.2)
        engine.finish(3)
        total, requests = engine.total, engine.requests
        assert total.interrupted == total.started > 5
        assert (requests.interrupted, requests.attempted) == (total.started, total.started)
        assert requests.response.count == 0

    def test_a_pause_does_not_hold_the_end_up(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request(), pause(60)), closed_load(3, 60))
        time.sleep(0.4)
        engine.stop(0.1)
        engine.finish(3)
        assert (engine.total.interrupted, engine.requests.ok, engine.requests.interrupted) == (3, 3, 0)

    def test_run_max_time(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/5000")), counted_load(2, 10), run_max_time_ns=SECOND // 2)
        assert engine.finish(5)["cause"] == "max_time"
        assert (engine.total.interrupted, engine.snapshots[-1]["totals"]["remaining"]) == (2, 18)

    def test_graceful_stop_at_the_loads_own_end(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/5000")), open_load(10, 0.5), graceful_stop_ns=SECOND // 5)
        assert engine.finish(5)["cause"] == "finished"
        assert engine.total.interrupted == 5

    def test_a_stop_before_the_start(self, engine: EngineProcess) -> None:
        engine.spec(scenario("http://127.0.0.1:9"), open_load(1, 1))
        engine.until_ready()
        engine.stop()
        assert engine.finish()["cause"] == "stopped"
        assert engine.end == {"type": "end", "cause": "stopped", "detail": "", "at_ns": None}

    def test_the_end_of_the_descriptor_ends_the_engine_at_once(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/5000")), closed_load(3, 60))
        time.sleep(0.3)
        os.close(engine._to)
        began = time.monotonic()
        assert engine.process.wait(5) == 3
        assert time.monotonic() - began < 3
        engine._to = os.dup(engine._from)

    @pytest.mark.parametrize("line", [b"garbage\n", b"[]\n", b"\xff\n"])
    def test_garbage_from_the_agent_ends_it_too(self, engine: EngineProcess, line: bytes) -> None:
        os.write(engine._to, line)
        assert engine.process.wait(5) == 3

    @pytest.mark.parametrize(
        ("spec", "load", "detail"),
        [
            ({"base_url": 1}, open_load(1, 1), "spec: "),
            (scenario("http://127.0.0.1:9"), {"kind": "nothing"}, "spec: load: "),
            (
                scenario("http://127.0.0.1:9", request(extract=[{"var": "a", "kind": "regex", "expr": "("}])),
                open_load(1, 1),
                "spec: not a regular expression",
            ),
            (scenario("https://127.0.0.1:9", tls={"verify": True, "ca": "ca.pem"}), open_load(1, 1), "spec: "),
        ],
    )
    def test_a_spec_that_can_not_be_run(self, engine: EngineProcess, spec: dict, load: dict, detail: str) -> None:
        engine.spec(spec, load, files={"ca.pem": __file__})
        end = engine.finish()
        assert end["cause"] == "failed" and end["detail"].startswith(detail), end


class TestSnapshots:
    def test_one_a_second_from_ready_on_with_its_health(self, engine: EngineProcess, demo: DemoTarget) -> None:
        engine.spec(scenario(demo.url), open_load(50, 1.5))
        engine.until_ready()
        waiting = engine.until("snapshot", 2)
        assert waiting["rows"] == [] and waiting["totals"]["started"] == 0 and not waiting["hungry"]
        engine.permit()
        engine.start(0.1)
        engine.finish()
        for snapshot in engine.snapshots:
            assert set(snapshot) == {"type", "number", "at", "rows", "totals", "health", "hungry", "warnings"}
            assert snapshot["health"]["rss_bytes"] > 1_000_000
        if engine.path != "auto":
            assert engine.snapshots[-1]["health"]["path"] == engine.path
        assert len(engine.snapshots) >= 3

    def test_a_row_is_amended_until_nothing_of_it_is_under_way(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/1500")), open_load(10, 0.5))
        engine.finish()
        amended = [line for line in engine.snapshots if any(row["second"] == 0 for row in line["rows"])]
        assert len(amended) >= 2
        assert engine.rows[0].ok == 5 and engine.rows[0].in_flight == 0

    def test_an_agent_that_does_not_read_does_not_stop_the_load(self, engine: EngineProcess, demo: DemoTarget) -> None:
        before = demo.counter()["total"]
        names = [request("/", name=f"{number} {'n' * 150}") for number in range(300)]
        begin(engine, scenario(demo.url, *names), counted_load(2, 6))
        deadline = time.monotonic() + 15
        while demo.counter()["total"] - before < 3600 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert demo.counter()["total"] - before == 3600
        engine.finish()
        assert engine.requests.ok == 3600


def test_the_engine_imports_the_standard_library_and_gevent_alone() -> None:
    """It must start within a few tenths of a second, also under a test bundle's own interpreter."""
    code = (
        "import sys; before = set(sys.modules); import loads.workers.engine_main, loads.workers.engines.http\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    allowed = {"gevent", "greenlet", "_greenlet", "zope", "cython_runtime", "loads", "loads_queue"}
    assert {name for name in found if not name.startswith(("__", "_cython"))} <= allowed


def test_the_order_of_its_lines_does_not_matter_to_a_stop(engine: EngineProcess, demo: DemoTarget) -> None:
    """Stop twice, permits after it, another start: only the first stop counts."""
    begin(engine, scenario(demo.url, request("/delay/200")), closed_load(2, 30))
    time.sleep(0.3)
    engine.stop(1)
    engine.permit()
    engine.start()
    engine.stop(1)
    assert engine.finish(3)["cause"] == "stopped"
    assert engine.total.interrupted == 0


def test_targets_that_answer_at_once_do_not_starve_the_agent(engine: EngineProcess) -> None:
    with ScriptedServer({}) as server:
        begin(engine, scenario(server.url), closed_load(10, 30))
        threading.Event().wait(0.5)
        began = time.monotonic()
        engine.stop()
        engine.finish(3)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "/${row.none}"])
def test_iterations_that_end_at_once_do_not_starve_it_either(engine: EngineProcess, url: str) -> None:
    """Refused by the target's host, or never sent: no iteration waits for anything."""
    begin(
        engine,
        scenario("http://127.0.0.1:9", request(url), {"type": "pause", "low_ns": 0, "high_ns": 0}),
        closed_load(3, 30),
    )
    engine.until("snapshot")
    began = time.monotonic()
    engine.stop()
    engine.finish(3)
    assert time.monotonic() - began < 3
    found = engine.requests
    assert found.failed + found.interrupted == found.unsent > 10


def test_more_arrivals_than_any_engine_can_begin_are_dropped_and_the_agent_is_still_heard(
    engine: EngineProcess, demo: DemoTarget
) -> None:
    engine.spec(scenario(demo.url, request("/delay/50")), open_load(300_000, 20), max_in_flight=5)
    engine.until_ready()
    engine.permit()
    engine.start()
    for _ in range(3):
        engine.until("snapshot", 5)
        engine.permit(until=boottime() + 60 * SECOND)
    engine.stop()
    engine.finish(10)
    total = engine.total
    assert total.started >= 10 and total.dropped_in_flight > 0
    assert total.started + total.dropped + total.missed == engine.snapshots[-1]["totals"]["next"]
