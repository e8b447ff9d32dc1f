"""One seed on one broker: ``python tests/chaos/chaos_seed.py --broker redis --seed 7``.

Builds a cluster of real processes, hands a job over, lets the script's faults happen, and judges what is left: the run
is final, its ledger balances, the target counted no less than what was answered and no more than what was sent, no
arrival was done twice, a small second run that needs every slot passes, and nothing is left behind. The last line of
output is the result as JSON; the exit status is 0 where all held.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaos_cluster import FINAL_AFTER_S, Cluster, cluster, small_plan
from chaos_faults import Chaos
from chaos_parts import tail
from chaos_script import BROKERS, LEASE_S, SLOTS, SPAN_S, WORKERS, Script, plan_document, script_for

TAKEN_UP_S = 30.0
FINAL_S = SPAN_S + 30 + 2 * LEASE_S + 3 * FINAL_AFTER_S + 30
"""How long a run may take, faults and all: load and graceful stop, takeovers, the wait for late Reports, outages."""
AFTER_S = 60.0
MOST_PATHS = 10_000


def perform(script: Script, folder: Path) -> dict[str, Any]:
    """Run a script; ``problems`` in what comes back is empty where everything held."""
    began = time.monotonic()
    with cluster(folder, script.broker, WORKERS, disorder=script.disorder, standby=script.standby) as made:
        up = time.monotonic()
        run = made.submit(plan_document(script.steps, made.target), script.jobs)
        if script.broker == "sqs":
            made.wait_state(run, ("waiting", "starting", "running"), TAKEN_UP_S)  # an unread job dies with moto
        chaos = Chaos(made, script.faults)
        chaos.start()
        chaos.finish()
        calm = time.monotonic()
        problems = list(chaos.problems)
        found: dict[str, Any] = {}
        try:
            found["summary"] = made.summary(run, FINAL_S)
            found["final_after_s"] = round(time.monotonic() - calm, 1)
            count = made.count()
            problems += judge(script, found["summary"], count)
            problems += second_run(made, count)
        except TimeoutError as error:
            problems.append(f"{error}: {standing(made, run)}")
        problems += made.leave()
    took = {"up": round(up - began, 1), "all": round(time.monotonic() - began, 1)}
    about = {"seed": script.seed, "broker": script.broker, "problems": problems, "done": chaos.done, "seconds": took}
    return {**about, **found}


def standing(made: Cluster, run: str) -> str:
    """Where a run stands that does not become final."""
    view = made.view(run)
    if view is None:
        return "no such run"
    claims = [
        (step.name, each.shard, each.attempt, each.worker, each.state) for step in view.steps for each in step.claims
    ]
    return f"{view.state} ({view.reason}), claims {claims}"


def judge(script: Script, summary: Mapping[str, Any], count: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a run's summary, held against the target's count and, independently, against the plan."""
    columns, requests = summary["ledger"], summary["requests"]
    if not columns["balanced"]:
        yield f"the ledger does not balance: {columns}, {summary['warnings']}"
    for name, step in ((step["name"], step["ledger"]) for step in summary["steps"]):
        yield from equations(name, step, script.planned.get(name))
    if not requests["answered"] <= count["total"] <= requests["sent"]:
        yield f"answered {requests['answered']} <= counted {count['total']} <= sent {requests['sent']} does not hold"
    yield from twice(script, summary, count)


def equations(name: str, columns: Mapping[str, int], planned: int | None) -> Iterator[str]:
    """The ledger's two equations, and the plan's own number."""
    ends = columns["started"] + columns["dropped"] + columns["missed"] + columns["cancelled"]
    if columns["planned"] + columns["surplus"] != ends:
        yield f"{name}: planned + surplus is not what became of it: {columns}"
    if columns["started"] != columns["ok"] + columns["failed"] + columns["interrupted"] + columns["lost"]:
        yield f"{name}: started is not what became of it: {columns}"
    if planned is not None and columns["planned"] != planned:
        yield f"{name}: {planned} were planned, not {columns['planned']}"


def twice(script: Script, summary: Mapping[str, Any], count: Mapping[str, Any]) -> Iterator[str]:
    """Arrivals have a path each, so the target knows whether one was done twice; only surplus may have been. So have
    the users whose turns are counted."""
    steps = {step["name"]: step["ledger"] for step in summary["steps"]}
    again = sum(times - 1 for path, times in count["paths"].items() if path.startswith("/bytes/"))
    if again > steps["open"]["surplus"]:
        yield f"{again} arrivals were done twice, and {steps['open']['surplus']} of them are surplus"
    turns = next((step["load"] for step in script.steps if step["name"] == "turns"), None)
    if turns is None or turns["shared"]:
        return
    for user in range(turns["users"]):
        done = count["paths"].get(f"/delay/{user}2", 0)
        if done > turns["iterations"] + steps["turns"]["surplus"]:
            yield f"user {user} did {done} turns of {turns['iterations']}"


def second_run(made: Cluster, count: Mapping[str, Any]) -> Iterator[str]:
    """A run that needs every slot passes, so no slot is held any more."""
    run = made.submit(small_plan(made.target, WORKERS * SLOTS))
    after = made.summary(run, AFTER_S)
    columns = after["ledger"]
    # Deliveries are disorderly still: a start that is heard late is missed work, and no more than that.
    if after["verdict"] != "passed" or not columns["balanced"] or columns["ok"] + columns["missed"] != 60:
        yield f"the second run: {after['verdict']}, {columns}, {after['warnings']}"
    now = made.count()["total"] - count["total"]
    if now != after["requests"]["answered"]:
        yield f"the target counted {now} of the second run, which had {after['requests']} (or the first went on)"


def report(result: Mapping[str, Any], script: Script, folder: Path) -> str:
    """A seed's result for people."""
    lines = [script.describe(), *(f"  done: {line}" for line in result["done"])]
    if summary := result.get("summary"):
        lines.append(f"  {summary['verdict']}: {summary['ledger']}")
        lines.append(f"  requests: {summary['requests']}")
        lines += [f"  {event['t']} {event['what']}" for event in summary["events"]]
    lines.append(f"  seconds: {result['seconds']}, final {result.get('final_after_s')} s after the last fault")
    lines += [f"  PROBLEM: {problem}" for problem in result["problems"]]
    if result["problems"]:
        lines += [f"--- {path.name}\n{tail(path, 12000)}" for path in sorted(folder.glob("*.log"))]
    return "\n".join(lines)


def main() -> int:
    """Run one seed and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=BROKERS, default="embedded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that failed")
    options = parser.parse_args()
    script = script_for(options.seed, options.broker)
    folder = Path(tempfile.mkdtemp(prefix="loads-chaos-"))
    try:
        result = perform(script, folder)
        print(report(result, script, folder))  # noqa: T201
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    summary = result.pop("summary", {})
    result |= {"verdict": summary.get("verdict"), "ledger": summary.get("ledger"), "requests": summary.get("requests")}
    print(json.dumps(result))  # noqa: T201
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
