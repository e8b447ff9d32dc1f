"""What becomes of a run whose output goes nowhere."""

from __future__ import annotations

import pytest
from run_harness import Command, Target

FULL = "loads: can't write to standard output: No space left on device\n"


@pytest.mark.parametrize(("sink", "told"), [("nobody reads", ""), ("/dev/full", FULL)])
def test_output_that_goes_nowhere_ends_no_run(loads: Command, target: Target, sink: str, told: str) -> None:
    process = loads.start("hit", f"{target.url}/", "--rate", "20", "--for", "1s", "--out", "out", sink=sink)
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == told
    assert loads.summary()["ledger"]["ok"] == 20
    assert not loads.left_behind()
