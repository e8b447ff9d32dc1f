"""The lines of the live view that tell what happens to a run: why it waits, gaps, changes, events, workers. Pure.

Texts may come from elsewhere: every one is cleaned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loads_queue.model.ledger import SECOND
from loads_queue.model.states import ClaimState, RunState

from . import words
from .gaps import KEPT
from .view import ChangeView, EventView, GapView, RunView, StepView, WorkerView

HEARD_S = 10
"""A worker that was heard of so lately is here."""


def standing(view: RunView) -> str:
    """What is told instead of progress, while there is none: what a run waits for, or why it ends."""
    if view.state == RunState.STARTING and not view.reason:
        shards = sum(step.workers for step in view.steps)
        ready = sum(1 for step in view.steps for claim in step.claims if claim.state == ClaimState.READY)
        return f"{ready} of {shards} shards ready" if shards else ""
    if view.state == RunState.RUNNING:
        before = (view.started_at or 0) - (view.now_at or 0)
        return f"begins in {words.clock(before / SECOND)}" if view.now_at is not None and before >= SECOND else ""
    if view.state == RunState.FINALISING:
        return ", ".join(text for text in (words.clean(view.reason), _awaited(view)) if text)
    return words.clean(view.reason)


def _awaited(view: RunView) -> str:
    """Whose last account a run waits for that is otherwise over: for a minute nothing else would be seen to happen."""
    claims = (claim for step in view.steps for claim in step.claims if claim.state != ClaimState.ENDED)
    names = list(dict.fromkeys(words.clean(claim.worker, 20) for claim in claims))
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"waits for what {', '.join(names[:3])}{more} may still report"


def steering(view: RunView) -> str:
    """What the load was set to, where that is not what the plan says: ``paused``, ``browse x 1.5 from 0:42``."""
    newest = {change.step: change for change in view.changes}
    elapsed = (view.now_at or 0) - (view.started_at or 0)
    texts = {name: text for name, change in newest.items() if (text := _change(change, elapsed))}
    if len(texts) == len(view.steps) and len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{words.clean(name, 30)} {text}" for name, text in texts.items())


def _change(change: ChangeView, elapsed_ns: int) -> str:
    text = words.factor(float(change.factor))
    if change.at_ns > elapsed_ns:
        return f"{text} from {words.clock(change.at_ns / SECOND)}"
    return "" if change.factor == 1 else text


def gaps(view: RunView) -> str:
    """How many gaps there were, and the newest one."""
    found = [(step, gap) for step in view.steps for gap in step.gaps]
    if not found:
        return ""
    missed, lost = (sum(getattr(gap, name) for _, gap in found) for name in ("missed", "lost"))
    step, gap = max(found, key=lambda pair: (pair[1].end_ns is None, pair[1].begin_ns))
    return f"{len(found)}: {missed:,} missed, {lost:,} lost; {_gap(step, gap)}"


def _gap(step: StepView, gap: GapView) -> str:
    begin = gap.begin_ns / SECOND
    where = f"{_shard(step, gap.shard)}: {words.clean(gap.worker, 20)} {words.gap_cause(gap.cause)}"
    if gap.end_ns is None:
        return f"{where} at {words.clock(begin)}"
    return f"{where} at {words.clock(begin)}, for {words.seconds(gap.end_ns / SECOND - begin)}"


def _shard(step: StepView, shard: int) -> str:
    return f"{words.clean(step.name, 30)} {shard + 1}/{step.workers}"


@dataclass(frozen=True)
class Notice:
    """Something to be told once; ``key`` tells it from others, whatever its figures become."""

    key: tuple[object, ...]
    text: str


def notices(view: RunView) -> Iterator[Notice]:
    """What a plain output tells as it happens: gaps as they open and close, changes."""
    for step in view.steps:
        for gap in step.gaps:
            key = (step.index, gap.shard, gap.attempt, gap.begin_ns if gap.cause == KEPT else gap.cause)
            where, begin = _shard(step, gap.shard), gap.begin_ns / SECOND
            why = f"{words.clean(gap.worker, 60)} {words.gap_cause(gap.cause)}"
            if gap.cause != KEPT:
                yield Notice((*key, "opened"), f"gap: {where}: {why} at {words.clock(begin)}")
            if gap.end_ns is not None:
                length = words.seconds(gap.end_ns / SECOND - begin)
                taken = any(claim.shard == gap.shard and claim.attempt > gap.attempt for claim in step.claims)
                over = "the load goes on, after" if taken else "nobody took it over until its load ended, after"
                text = f"{why} at {words.clock(begin)}, for" if gap.cause == KEPT else over
                yield Notice((*key, "closed"), f"gap: {where}: {text} {length}")
    for change in view.changes:
        text = f"{words.factor(float(change.factor))} from {words.clock(change.at_ns / SECOND)} on"
        yield Notice((change.step, change.at_ns), f"change: {words.clean(change.step, 60)}: {text}")


def event(view: RunView, one: EventView) -> str:
    """An event with its time in the schedule and who asked for it."""
    at = "" if view.started_at is None or one.at < view.started_at else words.clock((one.at - view.started_at) / SECOND)
    who = f"{words.clean(one.who, 20)}: " if one.who and one.who not in one.text else ""
    return f"{at:>5}  {who}{words.clean(one.text)}"


def workers(view: RunView) -> str:
    """One worker as it is; of several those that are here, and who of the run's is quiet or was refused."""
    known = [worker for worker in view.workers if worker.slots]
    if len(known) == 1:
        return _worker(known[0], view)
    claimed = {claim.worker for step in view.steps for claim in step.claims}
    here = [worker for worker in known if (quiet := _quiet_s(worker, view)) is not None and quiet < HEARD_S]
    parts = [
        f"{len(here)} here, {sum(each.slots - each.free for each in here)} of "
        f"{sum(each.slots for each in here)} slots busy"
    ]
    parts += [_quiet(each, view) for each in known if each not in here and each.name in claimed]
    parts += [f"refused: {words.clean(each.name, 20)}: {words.clean(each.refused)}" for each in here if each.refused]
    return "; ".join(parts) if known else ""


def _worker(worker: WorkerView, view: RunView) -> str:
    text = f"{words.clean(worker.name, 30)}  {worker.slots - worker.free} of {worker.slots} slots busy"
    if (quiet := _quiet_s(worker, view)) is not None:
        text += f"  heard {quiet:.0f}s ago"
    return text + (f"  refused: {words.clean(worker.refused)}" if worker.refused else "")


def _quiet(worker: WorkerView, view: RunView) -> str:
    quiet = _quiet_s(worker, view)
    return f"{words.clean(worker.name, 20)} quiet" + (f" for {words.clock(quiet)}" if quiet is not None else "")


def _quiet_s(worker: WorkerView, view: RunView) -> float | None:
    if worker.last_report_at is None or view.now_at is None:
        return None
    return max(0.0, (view.now_at - worker.last_report_at) / SECOND)
