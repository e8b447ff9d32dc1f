"""The simulator is itself tested: with any rule of the protocol switched off it finds a counterexample."""

from __future__ import annotations

import pytest

from tests.simulator.mutations import MOST, MUTATIONS, Mutation, found
from tests.simulator.seeds import judge


def test_every_rule_that_can_be_switched_off_is() -> None:
    assert {mutation.rule for mutation in MUTATIONS} == set(range(1, 9))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_world_without_a_rule_breaks_and_with_it_holds(mutation: Mutation) -> None:
    outcome = found(mutation)
    assert outcome is not None, f"{MOST} worlds held without {mutation}"
    assert judge(outcome.seed, outcome.setup).problems == ()
