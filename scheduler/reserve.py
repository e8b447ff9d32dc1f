"""Slots: what a run needs at its peak, all or nothing, and the offers for it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from loads_queue.messages import LoadStep, steps_queue
from loads_queue.model.plan import Plan, Step
from loads_queue.model.profile import to_wire
from loads_queue.model.shard import share
from loads_queue.model.states import SHARD_STATES, RunState, ShardEvent, ShardState, after

from .cluster import Cluster, Run, Shard
from .effects import Command, Publish, PutFile
from .takeover import close, past_end

ANY = "any"
"""The region that every worker is in."""
MOST_SPEC = 64 * 1024
"""The most bytes of a spec that an offer carries itself."""
HOLDING = (RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
"""The states in which a run's slots are its own."""


def offered_from(plan: Plan, step: Step) -> int:
    """The schedule time from which a step's shards are offered: 0, or ``ready_timeout`` before a later step begins."""
    return max(0, step.delay_ns - plan.ready_timeout_ns)


def held_until(step: Step) -> int | None:
    """The schedule time at which a step surely holds no slot any more; None where it is open."""
    ends = [step.load.end_ns + step.graceful_stop_ns] if step.load.end_ns is not None else []
    if step.run_max_time_ns:
        ends.append(step.run_max_time_ns + step.graceful_stop_ns)
    return step.delay_ns + min(ends) if ends else None


def peak(plan: Plan, shards: tuple[int, ...]) -> Counter[str]:
    """The most slots that a run holds at once, by region; under ``any``, in all."""
    spans = [(offered_from(plan, step), held_until(step), step) for step in plan.steps]
    most: Counter[str] = Counter()
    for moment, _, _ in spans:
        at_once: Counter[str] = Counter()
        for begin, end, step in spans:
            if begin <= moment and (end is None or moment < end):
                at_once[ANY] += shards[step.index]
                if step.region != ANY:
                    at_once[step.region] += shards[step.index]
        most |= at_once
    return most


def cut(plan: Plan, slots: int, workers: int | None) -> tuple[int, ...]:
    """How many shards each step is cut into where there are so many slots."""
    return tuple(plan.shards_of(step, max(1, slots), workers) for step in plan.steps)


def reserve(cluster: Cluster, run: Run, now: int) -> bool:
    """Reserve the slots of a waiting run's peak; False, with the reason on the run, where they aren't free."""
    plan = cluster.plans[run.id]
    there: Counter[str] = Counter()
    for worker in cluster.present(now):
        there[ANY] += worker.slots
        if worker.hello is not None and worker.hello.region != ANY:
            there[worker.hello.region] += worker.slots
    shards = cut(plan, there[ANY], run.workers)
    needed = peak(plan, shards)
    held: Counter[str] = Counter()
    for other in cluster.runs.values():
        if other.state in HOLDING and other.shards:  # one stopped while it waited never had any
            held += peak(cluster.plans[other.id], other.shards)
    for region in sorted(needed, key=lambda region: region != ANY):
        free = max(0, there[region] - held[region])
        if needed[region] > free:
            _explain(cluster, run, now, region, needed[region], there[region], free)
            return False
    run.shards = shards
    for step, count in enumerate(shards):
        for index in range(count):
            shard = Shard(run.id, step, index)
            cluster.shards[shard.key] = shard
            cluster.touch(shard)
    return True


def _explain(cluster: Cluster, run: Run, now: int, region: str, needed: int, there: int, free: int) -> None:
    """Say what a run waits for. Its ``ready_timeout`` runs only while the workers there could never be enough."""
    where = "" if region == ANY else f" in {region}"
    if there >= needed:
        reason = f"waiting for other runs to end: {free} of {needed} slots{where} free"
        run.waiting_since = None
    else:
        if run.waiting_since is None:
            run.waiting_since = now
            cluster.touch(run)
        waited = (now - run.waiting_since) // 1_000_000_000
        reason = f"{free} of {needed} slots{where} free after {waited}s: start more workers or lower `workers:`"
    if run.reason != reason:
        run.reason = reason
        cluster.touch(run)


def offer_due(cluster: Cluster, run: Run, now: int) -> list[Command]:
    """Offers for the shards that nobody holds and that are due to be offered, or offered again."""
    plan = cluster.plans[run.id]
    commands: list[Command] = []
    spare: bool | None = None
    for shard in cluster.shards_of(run.id):
        if shard.state is not ShardState.PENDING and shard.state is not ShardState.OFFERED:
            continue
        step = plan.steps[shard.step]
        if shard.attempt and past_end(run, step, now):
            close(cluster, shard)
            continue
        if shard.state is ShardState.PENDING:
            begin = offered_from(plan, step)
            if begin and (run.start_at is None or now < run.start_at + begin):
                continue
        else:
            if shard.offered_at is None or now - shard.offered_at < cluster.settings.offer_again_ns:
                continue
            spare = _spare(cluster, now) if spare is None else spare
            if not spare:
                continue
        shard.state = after(SHARD_STATES, shard.state, ShardEvent.OFFER)
        shard.attempt += 1
        shard.offered_at = now
        cluster.touch(shard)
        offer, kept = load_step(run, plan, step, shard)
        commands += kept
        commands.append(Publish(steps_queue(step.region, "process"), offer))
    return commands


def _spare(cluster: Cluster, now: int) -> bool:
    """Whether slots are free as far as is known, so that an offer that stood long must be made again. While Reports
    wait in the broker it is not known: the claim may be among them."""
    used = sum(1 for claim in cluster.claims.values() if claim.active)
    return cluster.drained and sum(worker.slots for worker in cluster.present(now)) > used


def load_step(run: Run, plan: Plan, step: Step, shard: Shard) -> tuple[LoadStep, list[PutFile]]:
    """The offer of a shard, as a message; a large spec travels by the file store."""
    count = run.shards[shard.step]
    text = json.dumps(step.spec, separators=(",", ":"), sort_keys=True).encode()
    large = len(text) > MOST_SPEC
    digest = hashlib.sha256(text).hexdigest() if large else None
    offer = LoadStep(
        id=f"{run.id}.{shard.step}.{shard.index}.{shard.attempt}",
        run=run.id,
        step=step.name,
        step_index=shard.step,
        phase="load",
        shard=shard.index,
        shards=count,
        attempt=shard.attempt,
        slot_kind="process",
        region=step.region,
        engine=step.engine,
        spec=None if large else step.spec,
        spec_digest=digest,
        load=to_wire(step.load),
        env=step.env,
        files={name: run.files[name] for name in step.files},
        delay_ns=step.delay_ns,
        max_in_flight=share(step.max_in_flight, shard.index, count),
        max_lateness_ns=step.max_lateness_ns,
        graceful_stop_ns=step.graceful_stop_ns,
        graceful_ramp_down_ns=step.graceful_ramp_down_ns,
        run_max_time_ns=step.run_max_time_ns,
        seed=step.seed,
        project=run.project,
        plan=run.plan_name,
        owner=run.owner,
    )
    return offer, [PutFile(digest, text)] if digest is not None else []
