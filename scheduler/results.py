"""What a run came to: the summary (``summary.json``), its verdict and the exit code.

Pure: a ``RunView`` goes in, JSON-able values come out. Every key is described in docs/summary.md; later versions
only add to them.
"""

from __future__ import annotations

from typing import Any

from loads_queue.model.ledger import Columns, Ledger
from loads_queue.model.profile import OpenLoad
from loads_queue.model.states import ClaimState
from loads_queue.model.thresholds import Threshold, Verdict, default_thresholds

from .results_events import changes_summary, events_summary, gaps_summary, responses_outside_gaps
from .results_fitness import Judged, fitness_summary, is_the_generators
from .results_series import (
    columns_summary,
    iso_time,
    iteration_summary,
    ledger_summary,
    merged_series,
    requests_summary,
    series_summary,
    settled,
    span_of,
    user_seconds_summary,
)
from .results_sockets import sockets_summary
from .results_timeline import timeline
from .threshold_data import ThresholdData
from .view import RunView, StepView

VERSION = 1
PASSED, FAILED, ABORTED, INCOMPLETE = "passed", "failed", "aborted", "incomplete"

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_NO_CAPACITY = 4
EXIT_INTERRUPTED = 130


def summary(view: RunView, interrupted: bool = False) -> dict[str, Any]:
    """The summary of a run, as ``summary.json`` has it; ``interrupted``: its end was asked for where this is made."""
    judged = judge(view)
    fit = Judged()
    verdict = verdict_of(view, judged, interrupted)
    ledger = whole_ledger(view)
    return {
        "version": VERSION,
        "run": {
            "id": view.id,
            "project": view.project,
            "plan": view.plan,
            "owner": view.owner,
            "started": iso_time(view.started_at),
            "ended": iso_time(view.ended_at),
            "state": str(view.state),
        },
        "verdict": verdict,
        "exit_code": exit_code(view, verdict, interrupted),
        "ledger": {**columns_summary(ledger.total), "balanced": balanced(view)},
        "dropped_by": dropped_by(ledger.total),
        "requests": requests_summary(ledger.requests),
        **sockets_summary(view, view.steps),
        "thresholds": [
            {
                "expression": threshold.expression,
                "value": each.value,
                "passed": each.passed,
                "reason": each.reason,
                "generator": not each.passed and is_the_generators(view, threshold, fit),
            }
            for threshold, each in zip(thresholds_of(view), judged, strict=True)
        ],
        "fitness": fitness_summary(fit.of_all(view)),
        "steps": [step_summary(view, step, fit) for step in view.steps],
        "gaps": gaps_summary(view),
        "changes": changes_summary(view),
        "events": events_summary(view),
        "timeline": timeline(view, fit),
        "notes": notes(view),
        "warnings": warnings(view),
    }


def step_summary(view: RunView, step: StepView, fit: Judged) -> dict[str, Any]:
    """One step's part of the summary."""
    begin, end = span_of(view, step)
    series = merged_series(step.rows)
    outside = responses_outside_gaps(step, series)
    return {
        "name": step.name,
        "kind": step.kind,
        "workers": step.workers,
        "engine": {"path": engine_path(step)},
        "ledger": ledger_summary(step.ledger),
        "user_seconds": user_seconds_summary(step.ledger.user_time),
        "requests": requests_summary(step.ledger.requests),
        "fitness": fitness_summary(fit.of(step)),
        "iteration": iteration_summary(step.rows),
        "series": [series_summary(name, series[name], outside[name], end - begin) for name in sorted(series)],
        **sockets_summary(view, (step,)),
    }


def engine_path(step: StepView) -> str | None:
    """Which driver the step's engines took, ``mixed`` where they differ; None where none has said."""
    paths = {claim.path for claim in step.claims if claim.path}
    return paths.pop() if len(paths) == 1 else "mixed" if paths else None


def judge(view: RunView) -> tuple[Verdict, ...]:
    """Every threshold of the run, compared."""
    data = ThresholdData(view)
    return tuple(threshold.judge(data) for threshold in thresholds_of(view))


def thresholds_of(view: RunView) -> tuple[Threshold, ...]:
    """The thresholds of the run; one without any has the default one."""
    return view.thresholds or default_thresholds()


def verdict_of(view: RunView, judged: tuple[Verdict, ...], interrupted: bool = False) -> str:
    """``passed``, ``failed``, ``aborted`` or ``incomplete``."""
    aborted = bool(view.aborted_by) or view.verdict == ABORTED
    if interrupted:
        return ABORTED
    if not view.final or not balanced(view) or view.no_capacity or view.verdict == INCOMPLETE:
        return INCOMPLETE
    if aborted:
        return ABORTED
    if not view.steps or any(step.unfinished for step in view.steps):
        return INCOMPLETE
    return PASSED if all(each.passed for each in judged) else FAILED


def exit_code(view: RunView, verdict: str, interrupted: bool = False) -> int:
    """The exit code that goes with a verdict: the first that applies of 130, 4, 3, 1 and 0."""
    if interrupted:
        return EXIT_INTERRUPTED
    if view.no_capacity:
        return EXIT_NO_CAPACITY
    return {PASSED: EXIT_PASSED, FAILED: EXIT_FAILED, ABORTED: EXIT_FAILED}.get(verdict, EXIT_INCOMPLETE)


def balanced(view: RunView) -> bool:
    """Whether the ledger of every step balances with nothing left undecided."""
    return all(settled(step.ledger) for step in view.steps)


def whole_ledger(view: RunView) -> Ledger:
    """The ledgers of all steps, added up."""
    found = Ledger()
    for step in view.steps:
        found.add(step.ledger)
    return found


def dropped_by(columns: Columns) -> dict[str, int]:
    """What the generator could not start, by cause."""
    return {
        "in_flight": columns.dropped_in_flight,
        "late": columns.dropped_late,
        "resource": columns.dropped_resource,
    }


def notes(view: RunView) -> list[str]:
    """What a reader of the numbers should know."""
    return [
        f"{step.name}: users without `pace`: response times are not corrected for coordinated omission"
        for step in view.steps
        if not isinstance(step.load, OpenLoad) and step.load.pace_ns is None
    ]


def warnings(view: RunView) -> list[str]:
    """What went wrong or was odd, each once."""
    found = list(view.warnings)
    if view.reason and view.final:
        found.append(view.reason)
    for step in view.steps:
        for claim in step.claims:
            found += claim.warnings
            where = f"{step.name} shard {claim.shard + 1}/{step.workers} on {claim.worker}"
            if claim.end_cause in ("crashed", "failed", "lapsed"):
                found.append(f"{where}: {claim.end_cause}{': ' if claim.end_detail else ''}{claim.end_detail}")
            elif claim.state == ClaimState.DEAD:
                found.append(f"{where}: nothing was heard of it any more")
        if view.final and not settled(step.ledger):
            found.append(f"{step.name}: the ledger does not balance: a report was lost or is wrong")
    return list(dict.fromkeys(found))
