"""A scenario as a generator that yields effects and is told nothing but their results: it decides, others do.

``Scenario.iterate`` yields ``Exchange`` (send it, fill in what became of it) and ``Rest`` (wait), and returns whether
the iteration succeeded. It never touches a socket or a clock, so that every driver shares its semantics: checks,
extraction, redirects and cookies as browsers treat them, choices, repetition, and what a failure ends. A failed
request fails its iteration; nothing is ever sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from loads_queue.model.scenario import Action, HttpScenario, OneOf, Pause, Repeat, Request

from .checks import Judge
from .cookies import CookieJar
from .errors import Refused
from .exchange import Effect, Exchange, Rest
from .prepared import Outgoing, PreparedRequest
from .urls import Origin
from .variables import Visit

Run = Generator[Effect, None, bool]
Settle = Callable[[Exchange], None]
"""Told of every exchange once it is judged."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class EndIteration(Exception):
    """A request with ``on_error: end_iteration`` failed."""


class Scenario:
    """A scenario compiled for running; shared by all users."""

    def __init__(self, spec: HttpScenario, wall_s: Callable[[], int]) -> None:
        self._redirects = spec.redirects
        self.cookies = spec.cookies
        self._wall_s = wall_s
        """Unix time in seconds, which cookies expire by."""
        self._before = _Block(self, spec, spec.before)
        self._do = _Block(self, spec, spec.do)

    def iterate(self, visit: Visit, jar: CookieJar | None, settle: Settle, kept: dict[str, object]) -> Run:
        """One iteration. ``kept`` holds what ``before`` extracted, for the user's later iterations."""
        ok = True
        try:
            if visit.fresh and self._before.steps:
                ok = yield from self._before.run(visit, jar, settle)
                kept.update(visit.vars)
            if not (yield from self._do.run(visit, jar, settle)):
                ok = False
        except EndIteration:
            ok = False
        return ok

    def origins(self) -> Iterator[Origin]:
        """Where requests go, as far as that is known beforehand, in the plan's order."""
        for block in (self._before, self._do):
            yield from block.origins()

    def take_cookies(self, x: Exchange, outgoing: Outgoing, jar: CookieJar) -> None:
        """What a response sets."""
        if x.head is not None and x.head.cookies:
            origin, path = outgoing.url.origin, outgoing.url.path
            for header in x.head.cookies:
                jar.take(header, origin.host, path, self._wall_s())

    def wire(self, outgoing: Outgoing, jar: CookieJar | None) -> bytes:
        """The request's bytes, with the jar's cookies behind the plan's own."""
        if not jar:
            return outgoing.wire
        origin = outgoing.url.origin
        cookies = jar.header(origin.host, outgoing.url.path, origin.scheme == "https", self._wall_s())
        both = "; ".join(part for part in (outgoing.cookie, cookies) if part)
        return outgoing.with_cookies(both)

    def location(self, x: Exchange, followed: int) -> str | None:
        """Where a response leads, or None where it is the answer; more than allowed is an error of the exchange."""
        if x.error is not None or x.head is None or x.status not in _REDIRECTS or not self._redirects:
            return None
        location = x.head.get("location")
        if location is not None and followed >= self._redirects:
            x.error = f"redirect: more than {self._redirects}"
            return None
        return location


class _Block:
    """Actions in order."""

    def __init__(self, scenario: Scenario, spec: HttpScenario, actions: Sequence[Action]) -> None:
        self.steps = [_compiled(scenario, spec, action) for action in actions]

    def run(self, visit: Visit, jar: CookieJar | None, settle: Settle) -> Run:
        ok = True
        for step in self.steps:
            if not (yield from step.run(visit, jar, settle)):
                ok = False
        return ok

    def origins(self) -> Iterator[Origin]:
        for step in self.steps:
            yield from step.origins()


class _PauseStep:
    def __init__(self, spec: Pause) -> None:
        self._low, self._spread = spec.low_ns, spec.high_ns - spec.low_ns

    def run(self, visit: Visit, jar: CookieJar | None, settle: Settle) -> Run:
        yield Rest(self._low + visit.draw(self._spread + 1) if self._spread else self._low)
        return True

    def origins(self) -> Iterator[Origin]:
        return iter(())


class _OneOfStep:
    def __init__(self, scenario: Scenario, spec: HttpScenario, one_of: OneOf) -> None:
        self._ways = [(way.weight, _Block(scenario, spec, way.do)) for way in one_of.branches]
        self._weight = sum(weight for weight, _ in self._ways)

    def run(self, visit: Visit, jar: CookieJar | None, settle: Settle) -> Run:
        drawn = visit.draw(self._weight)
        for weight, block in self._ways:
            if drawn < weight:
                return (yield from block.run(visit, jar, settle))
            drawn -= weight
        return True

    def origins(self) -> Iterator[Origin]:
        for _, block in self._ways:
            yield from block.origins()


class _RepeatStep:
    def __init__(self, scenario: Scenario, spec: HttpScenario, repeat: Repeat) -> None:
        self._times = repeat.times
        self._block = _Block(scenario, spec, repeat.do)

    def run(self, visit: Visit, jar: CookieJar | None, settle: Settle) -> Run:
        ok = True
        for _ in range(self._times):
            if not (yield from self._block.run(visit, jar, settle)):
                ok = False
        return ok

    def origins(self) -> Iterator[Origin]:
        return self._block.origins()


class _RequestStep:
    def __init__(self, scenario: Scenario, spec: HttpScenario, request: Request) -> None:
        self._scenario = scenario
        self._prepared = PreparedRequest(scenario=spec, spec=request)
        self._judge = Judge(request)
        self._ends = request.on_error == "end_iteration"

    def run(self, visit: Visit, jar: CookieJar | None, settle: Settle) -> Run:
        prepared = self._prepared
        x = Exchange(prepared.spec.name, prepared.timeout_ns, prepared.keep_body)
        outgoing: Outgoing | None = None
        try:
            outgoing = prepared.build(visit)
            self._load(x, outgoing, jar)
        except Refused as refused:
            x.error = str(refused)
        yield x
        if outgoing is not None:
            x = yield from self._follow(x, outgoing, jar, settle)
        if x.error is None:
            self._judge.judge(x, visit.vars)
        settle(x)
        if x.error is None:
            return True
        if self._ends:
            raise EndIteration
        return False

    def _follow(
        self, x: Exchange, outgoing: Outgoing, jar: CookieJar | None, settle: Settle
    ) -> Generator[Effect, None, Exchange]:
        """Follow redirects; gives the last exchange, which is not settled yet."""
        followed = 0
        while True:
            if jar is not None:
                self._scenario.take_cookies(x, outgoing, jar)
            location = self._scenario.location(x, followed)
            if location is None:
                return x
            last, x = x, Exchange(x.name, x.timeout_ns, x.keep_body)
            x.hop = True
            followed += 1
            try:
                outgoing = outgoing.redirected(last.status or 0, location)
                self._load(x, outgoing, jar)
            except Refused as refused:
                # The hop never became a request: it is the response that led nowhere which failed.
                last.error = str(refused)
                return last
            settle(last)
            yield x

    def _load(self, x: Exchange, outgoing: Outgoing, jar: CookieJar | None) -> None:
        x.method = outgoing.method
        x.origin = outgoing.url.origin
        x.closing = outgoing.closing
        x.wire = self._scenario.wire(outgoing, jar)

    def origins(self) -> Iterator[Origin]:
        origin = self._prepared.origin()
        if origin is not None:
            yield origin


_Step = _PauseStep | _OneOfStep | _RepeatStep | _RequestStep


def _compiled(scenario: Scenario, spec: HttpScenario, action: Action) -> _Step:
    if isinstance(action, Request):
        return _RequestStep(scenario, spec, action)
    if isinstance(action, Pause):
        return _PauseStep(action)
    if isinstance(action, OneOf):
        return _OneOfStep(scenario, spec, action)
    return _RepeatStep(scenario, spec, action)
