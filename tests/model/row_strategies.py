"""Rows with anything in them, for laws: counts up to 2^50, few names, so that rows have some in common."""

from __future__ import annotations

from hypothesis import strategies as st

from loads_queue.model.histogram import Histogram
from loads_queue.model.sockets import SOCKET_HISTOGRAMS, SOCKET_NUMBERS, Sockets
from loads_queue.model.summary import (
    ROW_COUNTS,
    ROW_HISTOGRAMS,
    ROW_MAXIMA,
    SERIES_COUNTS,
    SERIES_HISTOGRAMS,
    Row,
    Series,
)

COUNTS = st.integers(0, 2**50)
NAMES = st.sampled_from(["", "a", "GET /é"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    found = Histogram()
    for value in draw(st.lists(st.integers(0, 2**45), max_size=4)):
        found.record(value)
    return found


def some(names: tuple[str, ...], values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=3)


@st.composite
def series(draw: st.DrawFn) -> Series:
    return Series(
        **draw(some(SERIES_COUNTS, COUNTS)),
        **draw(some(SERIES_HISTOGRAMS, histograms())),
        statuses=draw(st.dictionaries(st.sampled_from([0, 200, 404]), COUNTS, max_size=2)),
        errors=draw(st.dictionaries(NAMES, COUNTS, max_size=2)),
        checks=draw(st.dictionaries(NAMES, st.tuples(COUNTS, COUNTS).map(list), max_size=2)),
    )


@st.composite
def sockets(draw: st.DrawFn) -> Sockets:
    return Sockets(
        **draw(some(SOCKET_NUMBERS, COUNTS)),
        **draw(some(SOCKET_HISTOGRAMS, histograms())),
        codes=draw(st.dictionaries(st.sampled_from([0, 1000, 1006]), COUNTS, max_size=2)),
        failures=draw(st.dictionaries(NAMES, COUNTS, max_size=2)),
    )


@st.composite
def rows(draw: st.DrawFn) -> Row:
    return Row(
        draw(st.integers(0, 5)),
        **draw(some((*ROW_COUNTS, *ROW_MAXIMA), COUNTS)),
        **draw(some(ROW_HISTOGRAMS, histograms())),
        series=draw(st.dictionaries(NAMES, series(), max_size=2)),
        sockets=draw(st.none() | sockets()),
    )
