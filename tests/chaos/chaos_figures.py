"""The cluster's figures under faults, measured on real processes: ``python tests/chaos/chaos_figures.py takeover``.

Times are seen at the target: from a fault to the first request after it, or to the last one. The target's counter is
asked every ten milliseconds, so a figure is right within about twice that. Each figure's run must also end with a
ledger that balances and with ``answered <= counted <= sent``. One JSON line a figure; the exit status is 1 where a bar
is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos_cluster import Cluster, cluster
from chaos_parts import Part, held, tail, wait_until
from chaos_script import BROKERS, LEASE_S, plan_document

POLL_S = 0.01
SETTLED_S = 0.06
"""What a killed engine had on the wire has arrived by then."""
STARTED_S = 60.0
FINAL_S = 120.0


class Watch:
    """The target's counts by path, with their times, as long as it runs."""

    def __init__(self, made: Cluster) -> None:
        self.times: list[float] = []
        self.counts: list[Mapping[str, int]] = []
        self._made = made
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                count = self._made.count()["paths"]
            except OSError:
                return  # the cluster is gone
            self.counts.append(count)
            self.times.append(time.monotonic())

    def close(self) -> None:
        """No more."""
        self._stop.set()
        self._thread.join()

    def at(self, moment: float, path: str) -> int:
        """The count that was seen last at that time."""
        place = bisect_right(self.times, moment)
        return self.counts[place - 1].get(path, 0) if place else 0

    def first_after(self, moment: float, path: str) -> float | None:
        """When the count was first seen to have grown after that time."""
        base = self.at(moment, path)
        for place in range(bisect_right(self.times, moment), len(self.times)):
            if self.counts[place].get(path, 0) > base:
                return self.times[place]
        return None

    def last_growth(self, path: str, before: float = math.inf) -> float:
        """When the count last grew."""
        last, found = 0, self.times[0]
        for moment, count in zip(self.times, self.counts, strict=False):
            if moment > before:
                break
            if count.get(path, 0) > last:
                last, found = count[path], moment
        return found

    def longest_silence(self, path: str, begin: float, end: float) -> float:
        """The longest time without growth between two moments."""
        last, longest, since = self.at(begin, path), 0.0, begin
        for moment, count in zip(self.times, self.counts, strict=False):
            if not begin < moment <= end:
                continue
            if count.get(path, 0) > last:
                last = count[path]
                longest, since = max(longest, moment - since), moment
        return longest


def open_step(number: int, rate: int, seconds: int, workers: int = 1, path: str = "") -> dict[str, Any]:
    """An open step with a path of its own."""
    do = [{"get": path or f"/bytes/{number}"}]
    load = {"rate": rate, "for": f"{seconds}s"}
    return {"name": f"s{number}", "workers": workers, "load": load, "http": {"timeout": "10s", "do": do}}


def holder(made: Cluster, run: str, step: int, shard: int = 0) -> Part | None:
    """The worker whose running engine holds a shard now."""
    view = made.view(run)
    claims = [each for each in view.steps[step].claims if each.shard == shard and str(each.state) == "running"]
    if not claims:
        return None
    last = max(claims, key=lambda claim: claim.attempt)
    numbers = [number for number, name in made.names.items() if name == last.worker]
    return made.workers[numbers[0]] if numbers else None


def begin(made: Cluster, document: Mapping[str, Any]) -> tuple[str, Watch]:
    """Hand a plan over; the run and a watch, once every step of it has reached the target."""
    run = made.submit(document)
    made.wait_state(run, ("running",), STARTED_S)
    watch = Watch(made)
    paths = [step["http"]["do"][0]["get"] for step in document["steps"]]
    wait_until(
        lambda: watch.counts and all(watch.counts[-1].get(path) for path in paths), STARTED_S, "every step has begun"
    )
    return run, watch


def finish(made: Cluster, run: str, watch: Watch | None = None) -> dict[str, Any]:
    """The run's summary, and what is wrong with its ledger, as ``problems``."""
    summary = made.summary(run, FINAL_S + 60)
    if watch is not None:
        watch.close()
    requests, total = summary["requests"], made.count()["total"]
    problems = [] if summary["ledger"]["balanced"] else ["the ledger does not balance"]
    if not requests["answered"] <= total <= requests["sent"]:
        problems.append(f"answered {requests['answered']} <= counted {total} <= sent {requests['sent']} does not hold")
    problems += made.leave()
    return {"ledger": summary["ledger"], "requests": requests, "counted": total, "problems": problems}


def seconds(values: Sequence[float]) -> dict[str, Any]:
    """How values are spread; p95 by nearest rank."""
    ranked = sorted(values)
    p95 = ranked[math.ceil(0.95 * len(ranked)) - 1]
    found = {"n": len(ranked), "min": ranked[0], "median": statistics.median(ranked), "p95": p95, "max": ranked[-1]}
    return {name: round(value, 3) for name, value in found.items()}


def takeover(folder: Path, options: argparse.Namespace, engines: bool = False) -> dict[str, Any]:
    """From SIGKILL to an agent (or an engine) to the successor's first request."""
    kills, every, away = options.kills, 1.5 if engines else 2.5, LEASE_S + 4.0
    steps = tuple(open_step(number, 40, int(kills * every + 25)) for number in range(1, 5))
    with cluster(
        folder, options.broker, 5 if engines else 10, slots=2 if engines else 1, more={"LOADS_MAX_ATTEMPTS": "50"}
    ) as made:
        run, watch = begin(made, plan_document(steps, made.target))
        time.sleep(2)
        killed: list[tuple[float, str]] = []
        returns: list[threading.Timer] = []
        for number in range(kills):
            step = number % len(steps)
            part = wait_until(lambda step=step: holder(made, run, step), 30, f"step {step} is held")
            moment = time.monotonic()
            if engines:
                _kill_engine(part)
            else:
                part.kill()
                returns.append(threading.Timer(away, part.start))
                returns[-1].start()
            killed.append((moment, f"/bytes/{step + 1}"))
            time.sleep(every)
        time.sleep(LEASE_S + 4)
        for each in returns:
            each.join()
        ended = finish(made, run, watch)
    firsts = [(watch.first_after(moment + SETTLED_S, path), moment) for moment, path in killed]
    found = [first - moment for first, moment in firsts if first is not None]
    ended["problems"] += ["a shard was not taken over"] * (len(firsts) - len(found))
    bar = 2.0 if engines else LEASE_S + 2.0
    return {**seconds(found), "bar": bar, "good": seconds(found)["p95"] <= bar, **ended}


def _kill_engine(part: Part) -> None:
    with held(part.engines()[:1]) as found:
        for each in found:
            each.signal(signal.SIGKILL)


def engine_takeover(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The same for engines alone."""
    return takeover(folder, options, engines=True)


def abort(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """From the order to abort to the last request, with twenty engines, three of which are stuck."""
    step = open_step(1, 200, 60, workers=20)
    with cluster(folder, options.broker, 2, slots=10) as made:
        run, watch = begin(made, plan_document((step,), made.target))
        time.sleep(3)
        stuck = made.workers[0].engines()[:3]
        with held(stuck) as engines:
            for each in engines:
                each.signal(signal.SIGSTOP)
            time.sleep(1)
            moment = time.monotonic()
            made.reader.request_abort(run, "figures")
            time.sleep(3)
            for each in engines:
                each.signal(signal.SIGCONT)
            time.sleep(2)
        last = watch.last_growth("/bytes/1")
        left = wait_until(lambda: not any(part.engines() for part in made.workers), 20, "every engine is gone")
        gone = time.monotonic() - moment
        ended = finish(made, run, watch)
    found = round(last - moment, 3)
    return {"silent_after": found, "engines_gone_within": round(gone, 1) if left else None, "bar": 2.0,
            "good": found <= 2.0, **ended}  # fmt: skip


def late_join(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """From a worker's start (its process's) to the first request of a run that waits for it."""
    found, problems = [], []
    for number in range(options.times):
        own = folder / str(number)
        own.mkdir()
        with cluster(own, options.broker, 0) as made:
            run = made.submit(plan_document((open_step(1, 50, 5),), made.target))
            made.wait_state(run, ("waiting",), STARTED_S)
            watch = Watch(made)
            part = made._worker(0)
            made.workers.append(part)
            moment = time.monotonic()
            part.start()
            first = wait_until(lambda w=watch, m=moment: w.first_after(m, "/bytes/1"), STARTED_S, "a request")
            found.append(first - moment)
            problems += finish(made, run, watch)["problems"]
    return {**seconds(found), "bar": 3.0, "good": max(found) <= 3.0, "problems": problems}


def drain(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """From the last request of a worker that is told to end to the first one of its successor."""
    found = []
    with cluster(folder, options.broker, 3, slots=1) as made:
        times = options.times
        run, watch = begin(made, plan_document((open_step(1, 100, times * 6 + 10),), made.target))
        time.sleep(2)
        for _ in range(times):
            part = wait_until(lambda: holder(made, run, 0), 30, "the shard is held")
            moment = time.monotonic()
            part.leave(30)
            time.sleep(2.5)
            found.append(watch.longest_silence("/bytes/1", moment - 0.2, time.monotonic()))
            part.start()
            part.wait_ready()
            time.sleep(1.5)
        ended = finish(made, run, watch)
    return {**seconds(found), "bar": 2.0, "good": max(found) <= 2.0, **ended}


def restart(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """From SIGKILL to the scheduler, which is started again at once, until it acts; and what the load felt of it."""
    acts, felt = [], []
    with cluster(folder, options.broker, 2) as made:
        step = open_step(1, 100, options.times * 12 + 10, workers=2)
        run, watch = begin(made, plan_document((step,), made.target))
        time.sleep(2)
        for _ in range(options.times):
            part = made.schedulers[0]
            moment = time.monotonic()
            part.kill()
            part.start()
            part.wait_ready()
            acts.append(time.monotonic() - moment)
            time.sleep(3)
            felt.append(watch.longest_silence("/bytes/1", moment, time.monotonic()))
        ended = finish(made, run, watch)
    missed = ended["ledger"]["missed"]
    return {"acts_again": seconds(acts), "longest_silence_of_the_load": seconds(felt), "missed": missed,
            "good": missed == 0, **ended}  # fmt: skip


def million(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A long run with five kills of workers and one of the scheduler: not one request without its column."""
    took = math.ceil(options.requests * 1.06 / options.rate)
    step = open_step(1, options.rate, took, workers=4)
    began = time.monotonic()
    with cluster(folder, options.broker, 4, slots=2, final_after_s=60, lease_s=10) as made:
        run = made.submit(plan_document((step,), made.target))
        made.wait_state(run, ("running",), STARTED_S)
        done = []
        for number in range(6):
            time.sleep(took / 7.5)
            if number == 3:
                made.schedulers[0].kill()
                time.sleep(2)
                made.schedulers[0].start()
                done.append("scheduler")
                continue
            part = wait_until(lambda n=number: holder(made, run, 0, n % 4), 60, "the shard is held")
            part.kill()
            done.append(f"{part.name} with shard {number % 4 + 1}")
            time.sleep(15)
            part.start()
        made.summary(run, took + 300)
        ended = finish(made, run)
    requests, columns = ended["requests"], ended["ledger"]
    residual = columns["planned"] + columns["surplus"] - sum(
        columns[name] for name in ("ok", "failed", "interrupted", "lost", "dropped", "missed", "cancelled")
    )  # fmt: skip
    good = residual == 0 and columns["balanced"] and requests["attempted"] >= options.requests
    spent = round(time.monotonic() - began)
    return {"killed": done, "residual": residual, "seconds": spent, "good": good, **ended}


FIGURES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "takeover": takeover, "engine-takeover": engine_takeover, "abort": abort, "late-join": late_join, "drain": drain,
    "restart": restart, "million": million,
}  # fmt: skip


def main() -> int:
    """Measure what is named; all but the million requests by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], help="by default all but million")
    parser.add_argument("--broker", choices=BROKERS, default="embedded")
    parser.add_argument("--kills", type=int, default=24, help="of agents, or of engines (default 24)")
    parser.add_argument("--times", type=int, default=5, help="how often the others are measured (default 5)")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of `million`")
    parser.add_argument("--rate", type=int, default=800, help="of `million`, a second (default 800)")
    options = parser.parse_args()
    bad = 0
    for name in options.figures or [name for name in FIGURES if name != "million"]:
        folder = Path(tempfile.mkdtemp(prefix="loads-figure-"))
        try:
            result = FIGURES[name](folder, options)
        except TimeoutError as error:
            logs = "\n".join(f"--- {path.name}\n{tail(path, 4000)}" for path in sorted(folder.glob("**/*.log")))
            print(f"{name}: {error}\n{logs}", flush=True)  # noqa: T201
            bad += 1
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        bad += not result["good"] or bool(result["problems"])
        print(json.dumps({"figure": name, "broker": options.broker, **result}), flush=True)  # noqa: T201
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
