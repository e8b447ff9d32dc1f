"""The ledger: every planned iteration ends in exactly one column, per second and in total.

    planned + surplus = started + dropped + missed + cancelled      (+ pending until the shard is over)
    started           = ok + failed + interrupted + lost            (+ in_flight until it is known)
    attempted         = ok + failed + interrupted + lost            requests, messages and handshakes

Each column has evidence of its own: ``planned`` the profile, ``started`` and ``dropped`` the rows, ``missed`` and
``lost`` the permits and bounds of attempts, ``cancelled`` the stop. None is computed as the remainder of the others,
so that a row that went missing shows as a ledger that does not balance. Nothing here reads a clock; times are
schedule times in nanoseconds. This module adds up rows and requests, and is where the rest of the code imports the
ledger from; ``ledger_open`` and ``ledger_users`` say what became of what no row tells of.
"""

from __future__ import annotations

from .columns import COLUMN_NAMES, Columns, Ledger, Requests, UserTime
from .evidence import ACCOUNTED, ORDERLY, SECOND, ClaimEvidence, ShardEvidence
from .ledger_open import fill_open
from .ledger_users import fill_closed, fill_iterations

__all__ = [
    "ACCOUNTED",
    "COLUMN_NAMES",
    "ORDERLY",
    "SECOND",
    "ClaimEvidence",
    "Columns",
    "Ledger",
    "Requests",
    "ShardEvidence",
    "UserTime",
    "shard_ledger",
]


def shard_ledger(evidence: ShardEvidence) -> Ledger:
    """The ledger of one shard from its evidence."""
    ledger = Ledger()
    for claim in evidence.claims:
        _take_rows(ledger, claim)
        _take_requests(ledger, claim)
    if evidence.kind == "open":
        fill_open(ledger, evidence)
    elif evidence.kind == "closed":
        fill_closed(ledger, evidence)
    else:
        fill_iterations(ledger, evidence)
    return ledger


def _take_rows(ledger: Ledger, claim: ClaimEvidence) -> None:
    # Written out: an hour's rows are gone through each time that somebody looks.
    for row in claim.rows:
        columns = ledger.at(row.second)
        columns.started += row.started
        columns.dropped_in_flight += row.dropped_in_flight
        columns.dropped_late += row.dropped_late
        columns.dropped_resource += row.dropped_resource
        columns.missed += row.missed
        columns.ok += row.ok
        columns.failed += row.failed
        columns.interrupted += row.interrupted
        columns.surplus += row.surplus
        if claim.unknown:
            columns.lost += row.in_flight
        else:
            columns.in_flight += row.in_flight


def _take_requests(ledger: Ledger, claim: ClaimEvidence) -> None:
    requests = ledger.requests
    unknown = claim.unknown
    told = 0
    for row in claim.rows:
        for series in row.series.values():
            told += series.attempted
            requests.unsent += series.unsent
            requests.answered += series.answered
            requests.ok += series.ok
            requests.failed += series.failed
            requests.interrupted += series.interrupted
            if unknown:
                requests.lost += series.in_flight
            else:
                requests.in_flight += series.in_flight
    requests.attempted += claim.attempted
    if claim.holed:
        requests.lost += max(0, claim.attempted - told)
    if claim.dead and not claim.accounted:
        beyond = max(0, claim.bound_requests - claim.attempted)
        requests.lost += beyond
        requests.attempted += beyond
