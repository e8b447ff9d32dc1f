"""Reports on disk: whole or not there, in order, bounded, and gone once the scheduler has them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from loads.workers import spool as spools
from loads.workers.spool import Spool, adopt

from loads_queue.messages import ClaimReport, Report


def report(sequence: int, life: str = "life1", claims: bool = True, rows: int = 1) -> Report:
    found = ClaimReport("c", "run", "step", 0, 1, "running", rows=tuple({"second": second} for second in range(rows)))
    return Report(f"{life}-{sequence}", "w1", life, sequence, 1, 1, 5, 2, 1, claims=(found,) if claims else ())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def test_the_next_life_finds_what_was_kept_as_it_was(tmp_path: Path) -> None:
    first = Spool(tmp_path, "life1")
    kept = [report(number, rows=number) for number in (1, 2, 3)]
    first.keep(kept)
    second = Spool(tmp_path, "life2")
    assert list(second.former()) == kept
    assert list(second.former()) == kept and not second.empty


def test_lives_come_in_their_order(tmp_path: Path) -> None:
    for life in ("z", "a", "m"):
        Spool(tmp_path, life).keep([report(1, life), report(2, life)])
    assert [each.id for each in Spool(tmp_path, "b").former()] == ["z-1", "z-2", "a-1", "a-2", "m-1", "m-2"]


def test_what_the_scheduler_has_is_removed(tmp_path: Path) -> None:
    found = Spool(tmp_path, "life1")
    found.keep([report(number) for number in range(1, 6)])
    found.trim(3)
    assert names(tmp_path) == ["000000000004", "000000000005"] and not found.empty
    found.trim(5)
    assert names(tmp_path) == [] and found.empty


def test_a_report_that_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    found = Spool(tmp_path, "life1")
    found.keep([report(1), report(2)])
    found.keep([report(1)])
    found.trim(1)
    found.keep([report(1)])
    assert names(tmp_path) == ["000000000002"]
    found.trim(2)
    assert found.empty


def test_reports_without_claims_are_not_worth_a_file(tmp_path: Path) -> None:
    found = Spool(tmp_path, "life1")
    found.keep([report(1, claims=False)])
    assert found.empty and not list(tmp_path.iterdir())


def test_former_lives_stay_until_they_were_sent_and_the_scheduler_was_heard(tmp_path: Path) -> None:
    Spool(tmp_path, "life1").keep([report(7)])
    second = Spool(tmp_path, "life2")
    second.trim(1)
    assert not second.empty
    assert len(list(second.former())) == 1
    second.sent_former()
    second.trim(0)
    assert not second.empty
    second.trim(1)
    assert second.empty and not names(tmp_path)


def test_what_is_cleared_is_this_lifes_own(tmp_path: Path) -> None:
    Spool(tmp_path, "life1").keep([report(7)])
    second = Spool(tmp_path, "life2")
    second.keep([report(1, "life2")])
    second.sent_former()
    second.clear()
    assert names(tmp_path) == ["000000000007"] and not second.empty


def test_half_written_and_damaged_files_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Spool(tmp_path, "life1").keep([report(number) for number in (1, 2, 3, 4)])
    (folder,) = tmp_path.iterdir()
    (folder / "000000000002").write_bytes(b'{"v": 1, \xff')
    (folder / "000000000003").write_text("{}")
    (folder / "000000000005.new").write_text("half")
    with caplog.at_level(logging.WARNING):
        assert [each.sequence for each in Spool(tmp_path, "life2").former()] == [1, 4]
    assert len(caplog.records) == 2 and "can't be read" in caplog.text


@pytest.mark.parametrize("limit", ["MOST_REPORTS", "MOST_BYTES"])
def test_it_is_bounded_and_says_what_it_forgets(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = Spool(tmp_path, "life1")
    found.keep([report(1)])
    size = next(tmp_path.glob("*/*")).stat().st_size
    monkeypatch.setattr(spools, limit, 3 if limit == "MOST_REPORTS" else 3 * size)
    with caplog.at_level(logging.WARNING):
        found.keep([report(number) for number in (2, 3, 4, 5)])
    assert names(tmp_path) == ["000000000003", "000000000004", "000000000005"]
    assert "oldest 2 Reports" in caplog.text


def test_a_disk_that_takes_nothing_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    found = Spool(tmp_path / "spool", "life1")
    with caplog.at_level(logging.WARNING):
        found.keep([report(1), report(2)])
        found.keep([report(3)])
    assert len(caplog.records) == 1 and "can't be kept" in caplog.text
    (tmp_path / "spool").unlink()
    found.keep([report(4)])
    assert names(tmp_path / "spool") == ["000000000004"]


def test_another_workers_lives_are_taken_over(tmp_path: Path) -> None:
    for life in ("life1", "life2"):
        Spool(tmp_path / "gone", life).keep([report(1, life)])
    Spool(tmp_path / "here", "life3").keep([report(1, "life3")])
    assert adopt(tmp_path / "here", tmp_path / "gone") == 2
    assert {each.id for each in Spool(tmp_path / "here", "now").former()} == {"life1-1", "life2-1", "life3-1"}
    assert names(tmp_path / "gone") == []
    assert adopt(tmp_path / "here", tmp_path / "never was") == 0
