"""Processor time of a tree of processes, from made-up lines of /proc: whoever ends within a window is counted once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_data
import pytest

proc, children, measuring = map(bench_data.module, ("proc", "children", "measuring"))


def line(pid: int, parent: int, user: int, system: int, reaped: tuple[int, int] = (0, 0), name: str = "x") -> str:
    """As the kernel writes it; started at 1000 + pid."""
    before = f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 100 0 0 0 {user} {system} {reaped[0]} {reaped[1]}"
    return f"{before} 20 0 1 0 {1000 + pid} 1000 100 18446744073709551615"


def stats(*lines: str) -> list[Any]:
    """Parsed."""
    return [proc.parse_stat(each) for each in lines]


def test_a_name_may_hold_anything() -> None:
    stat = proc.parse_stat(line(7, 3, 10, 5, (2, 1), name="a) S 99 (b"))
    assert (stat.pid, stat.parent, stat.own, stat.reaped, stat.started) == (7, 3, 15, 3, 1007)


def test_a_tree_is_all_below_a_process_and_no_neighbour() -> None:
    found = proc.below(
        2, stats(line(1, 0, 9, 9), line(2, 1, 1, 0), line(3, 2, 2, 0), line(4, 3, 4, 0), line(5, 1, 8, 0))
    )
    assert sorted(found) == [2, 3, 4]
    assert proc.ticks(found) == 7


def test_a_child_that_was_born_and_ended_within_the_window_is_counted_by_its_parent() -> None:
    before = proc.below(2, stats(line(2, 1, 10, 0)))
    after = proc.below(2, stats(line(2, 1, 12, 0, (30, 1))))
    assert proc.spent(before, after) == 33


def test_a_child_that_ended_within_the_window_counts_from_its_begin_on() -> None:
    before = proc.below(2, stats(line(2, 1, 10, 0), line(3, 2, 100, 0)))
    after = proc.below(2, stats(line(2, 1, 10, 0, (105, 0))))
    assert proc.spent(before, after) == 5
    assert sum(proc.spent_by({2: "agent", 3: "engine"}, before, after).values()) == 5


def test_one_whose_parent_has_ended_stays_in_the_tree() -> None:
    before = proc.below(2, stats(line(2, 1, 0, 0), line(3, 2, 1, 0), line(4, 3, 5, 0)))
    known = [stat.key for stat in before.values()]
    # 3 has ended: 2 has waited for it, and 4 is a child of somebody else now.
    later = stats(line(2, 1, 0, 0, (1, 0)), line(4, 1, 9, 0))
    assert proc.spent(before, proc.below(2, later, known)) == 4


def test_a_pid_that_came_again_is_another_process() -> None:
    before = proc.below(2, stats(line(2, 1, 0, 0), line(4, 2, 5, 0)))
    known = [stat.key for stat in before.values()]
    stranger = proc.Stat(4, 1, 700, 0, started=99_999)
    assert sorted(proc.below(2, [*stats(line(2, 1, 0, 0)), stranger], known)) == [2]


def test_time_is_shared_out_by_role() -> None:
    before = proc.below(2, stats(line(2, 1, 0, 0), line(3, 2, 1, 0)))
    after = proc.below(2, stats(line(2, 1, 5, 0), line(3, 2, 11, 0), line(4, 2, 2, 2)))
    assert proc.spent_by({2: "command", 3: "engine"}, before, after) == {"command": 5, "engine": 10, "other": 4}


def test_memory_is_read_from_the_kernels_text() -> None:
    text = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:       9000 kB\nPss:       4000 kB\nPss_Dirty: 10 kB\n"
    assert proc.parse_memory(text) == proc.Memory(9000 * 1024, 4000 * 1024)
    assert proc.memory_of([2**22 + 1]) == proc.Memory()


def test_a_window_lies_between_two_looks() -> None:
    def look(at: float, requests: int, client: str, server: str, busy: int) -> Any:
        return measuring.Look(at, requests, proc.below(2, stats(client)), proc.below(9, stats(server)), busy)

    before = look(10.0, 1_000, line(2, 1, 100, 0), line(9, 1, 0, 50), 5_000)
    after = look(16.0, 201_000, line(2, 1, 500, 100), line(9, 1, 0, 250), 5_800)
    found = measuring.window(before, after, {2: "engine"})
    second = proc.ticks_per_second()
    assert (found.requests, found.seconds) == (200_000, 6.0)
    assert (found.cpu_s, found.server_cpu_s, found.others_cpu_s) == (500 / second, 200 / second, 100 / second)
    assert found.roles == {"engine": 500 / second}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_nothing_outlives_its_block(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '300']); print('up', flush=True); sys.stdin.close(); "
    code += "import signal; signal.pause()"
    seen: dict[int, Any] = {}
    core = min(os.sched_getaffinity(0))
    with (
        pytest.raises(KeyboardInterrupt),
        children.running([sys.executable, "-c", code], core, tmp_path / "out") as run,
    ):
        while len(seen) < 2 or "up" not in (tmp_path / "out").read_text():
            seen = proc.Tree(run.pid).look()
        raise KeyboardInterrupt
    alive = {stat.key for stat in proc.read_stats()}
    assert [stat for stat in seen.values() if stat.key in alive and not _is_zombie(stat.pid)] == []


def _is_zombie(pid: int) -> bool:
    """Ended, and not yet buried by whoever is the parent of orphans here."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    target = SimpleNamespace(begun=lambda: 0, process=SimpleNamespace(pid=os.getpid()))
    bench = SimpleNamespace(target=target, core=min(os.sched_getaffinity(0)), scratch=tmp_path)
    with (
        pytest.raises(RuntimeError, match=r"ended without a request: .*no-such-program"),
        measuring.started(bench, ["no-such-program"], {"PATH": os.environ["PATH"]}),
    ):
        pass
