"""What a worker should be doing now, as one Control: state, so that any of them may be lost."""

from __future__ import annotations

from loads_queue.messages import ClaimOrder, Control, Echo, control_queue
from loads_queue.model.states import ClaimState, RunState

from .cluster import Claim, Cluster, Worker
from .effects import Command, Publish

STOPPED = (RunState.STOPPING, RunState.FINALISING, RunState.FINISHED)


def control_for(cluster: Cluster, worker: Worker, now: int) -> Command:
    """The next Control for a worker, as a message to publish."""
    worker.revision += 1
    worker.control_at = now
    cluster.touch(worker)
    granted = [
        _order(cluster, claim)
        for claim in cluster.claims.by_worker.get(worker.name, {}).values()
        if claim.incarnation == worker.incarnation and claim.state != ClaimState.ENDED
    ]
    refused = [
        ClaimOrder(
            claim=refusal.claim,
            run=refusal.run,
            step=refusal.step,
            shard=refusal.shard,
            attempt=refusal.attempt,
            decision="refused",
            action="stop",
            reason=refusal.reason,
        )
        for refusal in worker.refusals.values()
    ]
    return Publish(
        control_queue(worker.name),
        Control(
            id=f"{worker.name}.{worker.incarnation}.{cluster.epoch}.{worker.revision}",
            worker=worker.name,
            incarnation=worker.incarnation,
            epoch=cluster.epoch,
            revision=worker.revision,
            applied=worker.applied,
            claims=(*granted, *refused),
            report_interval_ns=cluster.report_interval_ns,
            lease_ttl_ns=cluster.settings.lease_ttl_ns,
            refused=worker.refused,
            echo=Echo(
                report_sequence=worker.report_sequence,
                report_sent_at=worker.report_sent_at,
                report_received_at=worker.last_report_at,
                sent_at=now,
            ),
        ),
    )


def _order(cluster: Cluster, claim: Claim) -> ClaimOrder:
    run = cluster.runs[claim.run]
    shard = cluster.shards[claim.run, claim.step, claim.shard]
    superseded = shard.claim != claim.id
    going = "wait" if run.start_at is None else "run"
    action = "stop" if run.state in STOPPED or superseded else going
    return ClaimOrder(
        claim=claim.id,
        run=claim.run,
        step=cluster.plans[claim.run].steps[claim.step].name,
        shard=claim.shard,
        attempt=claim.attempt,
        decision="granted",
        action=action,
        reason="another attempt holds the shard" if superseded else run.reason if action == "stop" else "",
        start_at=run.start_at,
        first=claim.first,
        turns=claim.turns,
        stop_grace_ns=run.stop_grace_ns,
        changes=run.changes.get(str(claim.step), ()),
    )
