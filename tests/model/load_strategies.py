"""Loads of every shape for the properties, and the questions answered the slow, obvious way."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import strategies as st

from loads_queue.model.profile import (
    NANOS,
    ClosedLoad,
    IterationsLoad,
    OpenLoad,
    RateStage,
    UserStage,
)

Stage = RateStage | UserStage

SLOW = st.one_of(st.just(Fraction(0)), st.fractions(0, 20, max_denominator=90), st.integers(0, 20).map(Fraction))
"""Rates that bring few arrivals in seconds."""
FAST = st.one_of(st.just(Fraction(0)), st.fractions(0, NANOS, max_denominator=7))
"""Rates that bring an arrival in every few nanoseconds, where rounding shows."""
SECONDS = st.one_of(st.integers(0, 4).map(NANOS.__mul__), st.integers(0, 4 * NANOS))
NANOSECONDS = st.integers(0, 60)
FACTORS = st.tuples(st.integers(0, 5), st.integers(1, 4))


@st.composite
def stages(draw: st.DrawFn, kind: type[Stage], values: st.SearchStrategy[Fraction] = SLOW) -> tuple[Stage, ...]:
    """One to four stages: plateaus (also of 0) and ramps (also from and to 0), continuous or with steps."""
    fast = kind is RateStage and draw(st.booleans())
    values, durations = (FAST, NANOSECONDS) if fast else (values, SECONDS)
    found, last = [], draw(values)
    for _ in range(draw(st.integers(1, 4))):
        start = last if draw(st.booleans()) else draw(values)
        last = start if draw(st.booleans()) else draw(values)
        found.append(kind(start, last, draw(durations), draw(st.sampled_from([None, "steady", "ramp"]))))
    return tuple(found)


@st.composite
def changes(draw: st.DrawFn, of: tuple[Stage, ...]) -> tuple[tuple[int, int, int], ...]:
    """None to four changes, also before the start, at the stages' corners, and behind the end."""
    length = sum(stage.duration_ns for stage in of)
    corners = [sum(stage.duration_ns for stage in of[:index]) for index in range(len(of) + 1)]
    times = st.one_of(st.sampled_from(corners), st.integers(-10, 2 * length + 10))
    found = draw(st.lists(st.tuples(times, FACTORS), max_size=4, unique_by=lambda change: change[0]))
    return tuple((at, *factor) for at, factor in found)


@st.composite
def open_loads(draw: st.DrawFn) -> OpenLoad:
    """Loads of up to a few hundred arrivals, even or jittered, for a time or with a number, changed or not."""
    of = draw(stages(RateStage))
    iterations = None
    if of[-1].end and draw(st.booleans()):
        iterations = draw(st.integers(1, 60))
    load = OpenLoad(of, iterations, draw(st.sampled_from(["even", "jittered"])), draw(st.integers(-(2**40), 2**40)))
    return load.changed(draw(changes(of))) if draw(st.booleans()) else load


@st.composite
def closed_loads(draw: st.DrawFn) -> ClosedLoad:
    """Loads of up to a hundred users, changed or not."""
    of = draw(stages(UserStage))
    load = ClosedLoad(of, draw(st.sampled_from([None, 1, NANOS])))
    return load.changed(draw(changes(of))) if draw(st.booleans()) else load


iterations_loads = st.builds(
    IterationsLoad,
    cycles=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=4).map(tuple),
    shared=st.booleans(),
    pace_ns=st.sampled_from([None, 1, NANOS]),
)


def value_at(load: OpenLoad | ClosedLoad, t: Fraction) -> Fraction:
    """The profile's value at t (ns): the stage's straight line times the factor in force, in this order."""
    begin = 0
    factor = next((Fraction(num, den) for at, num, den in sorted(load.changes, reverse=True) if at <= t), Fraction(1))
    for stage in load.stages:
        if begin <= t < begin + stage.duration_ns:
            return factor * (stage.start + (stage.end - stage.start) * (t - begin) / stage.duration_ns)
        begin += stage.duration_ns
    held = isinstance(load, OpenLoad) and load.iterations is not None
    return factor * load.stages[-1].end if held and t >= begin else Fraction(0)


def arrived(load: OpenLoad, t: int) -> Fraction:
    """L(t) by the midpoint rule, which is exact for straight lines, between all corners."""
    corners = {0, max(t, 0), *(at for at, _, _ in load.changes)}
    begin = 0
    for stage in load.stages:
        begin += stage.duration_ns
        corners.add(begin)
    times = sorted(corner for corner in corners if 0 <= corner <= t)
    middles = ((low, high, value_at(load, Fraction(low + high, 2))) for low, high in pairwise(times))
    return sum(((high - low) * rate for low, high, rate in middles), Fraction(0)) / NANOS


def moments(load: OpenLoad | ClosedLoad) -> st.SearchStrategy[int]:
    """Times in ns around all of a load, its corners and whole seconds among them."""
    corners = [span[1] for span in load.stage_spans()] + [at for at, _, _ in load.changes]
    near = [corner + by for corner in corners for by in (-1, 0, 1)]
    last = min(load.end_ns, 100 * NANOS)
    return st.one_of(
        st.sampled_from(near), st.integers(-3, last + 3), st.integers(0, last // NANOS + 2).map(NANOS.__mul__)
    )
