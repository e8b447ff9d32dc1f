"""What a scenario decides: a walk through its program is told nothing but results, and says what is to be done next.

``Walk.step`` gives an ``Exchange`` (send it, fill in what became of it) or a ``Rest`` (wait), and None once the
iteration is over. It never touches a socket or a clock, so that every driver shares its semantics: checks,
extraction, redirects and cookies as browsers treat them, choices, repetition, and what a failure ends. A failed
request fails its iteration; nothing is ever sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from loads_queue.model.scenario import HttpScenario

from .cookies import CookieJar
from .errors import Refused
from .exchange import Effect, Exchange, Rest
from .prepared import Outgoing
from .program import Again, Choose, End, Jump, Keep, Program, RepeatFrom, Send, Wait
from .urls import Origin
from .variables import Visit

Settle = Callable[[Exchange], None]
"""Told of every exchange once it is judged."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Scenario:
    """A scenario compiled for running; shared by all users. Raises ValueError for what can't be run."""

    def __init__(self, spec: HttpScenario, wall_s: Callable[[], int]) -> None:
        self.redirects = spec.redirects
        """How many may be followed in a row."""
        self.cookies = spec.cookies
        self.connections = spec.connections
        self.program = Program(spec)
        self._wall_s = wall_s
        """Unix time in seconds, which cookies expire by."""

    def jar(self) -> CookieJar | None:
        """A new user's jar; None where cookies are not taken."""
        return CookieJar() if self.cookies else None

    def origins(self) -> Iterator[Origin]:
        """Where requests go, as far as that is known beforehand, in the plan's order."""
        return self.program.origins()

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
        if x.error is not None or x.head is None or x.status not in REDIRECTS or not self.redirects:
            return None
        location = x.head.get("location")
        if location is not None and followed >= self.redirects:
            x.error = f"redirect: more than {self.redirects}"
            return None
        return location


class Walk:
    """One iteration after another through a program, for one driver; ``settle`` is told of each exchange."""

    __slots__ = (
        "_counts", "_followed", "_ops", "_outgoing", "_scenario", "_send", "_settle", "_x", "at", "jar", "kept", "ok",
        "visit",
    )  # fmt: skip

    def __init__(self, scenario: Scenario, settle: Settle) -> None:
        self._scenario = scenario
        self._ops = scenario.program.ops
        self._settle = settle
        self._counts = [0] * scenario.program.counters
        self._send: Send | None = None
        self._x: Exchange | None = None
        self._outgoing: Outgoing | None = None
        self._followed = 0
        self.at = 0
        """The place of the operation that comes next."""
        self.ok = True
        """No request of the iteration has failed so far."""
        self.visit: Visit | None = None
        self.jar: CookieJar | None = None
        self.kept: dict[str, Any] = {}

    def begin(self, visit: Visit, jar: CookieJar | None, kept: dict[str, Any]) -> None:
        """Another iteration. ``kept`` holds what ``before`` extracted, for the user's later iterations."""
        self.visit, self.jar, self.kept = visit, jar, kept
        self.at = self._scenario.program.start(visit.fresh)
        self.ok = True
        self._x = None

    def step(self) -> Effect | None:
        """What is to be done next, now that the last effect was carried out; None: the iteration is over."""
        if self._x is not None:
            hop = self.took(self._x)
            if hop is not None:
                return hop
        visit = self.visit
        assert visit is not None, "a walk is only gone on with once it has begun"
        while True:
            op = self._ops[self.at]
            self.at += 1
            if isinstance(op, Send):
                return self.send(op)
            if isinstance(op, Wait):
                return Rest(op.duration(visit))
            if isinstance(op, Choose):
                self.at = op.pick(visit)
            elif isinstance(op, Jump):
                self.at = op.to
            elif isinstance(op, RepeatFrom):
                self._counts[op.slot] = op.times
            elif isinstance(op, Again):
                self._counts[op.slot] -= 1
                if self._counts[op.slot]:
                    self.at = op.to
            elif isinstance(op, Keep):
                self.kept.update(visit.vars)
            elif isinstance(op, End):
                self.at -= 1
                return None

    def send(self, op: Send) -> Exchange:
        """The exchange of a request, whose place is behind this walk: its fate is taken in by the next ``step``."""
        self._send = op
        self._followed = 0
        self._outgoing = None
        self._x = x = Exchange(op.name, op.timeout_ns, op.keep_body)
        assert self.visit is not None, "a walk is only gone on with once it has begun"
        try:
            self._load(x, op.prepared.build(self.visit))
        except Refused as refused:
            x.error = str(refused)
        return x

    def failed(self, op: Send) -> None:
        """A request has failed, and with it the iteration, which it may end."""
        self.ok = False
        if op.ends:
            self.at = len(self._ops) - 1

    def _load(self, x: Exchange, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        x.method = outgoing.method
        x.origin = outgoing.url.origin
        x.closing = outgoing.closing
        x.wire = self._scenario.wire(outgoing, self.jar)

    @property
    def pending(self) -> Exchange | None:
        """The exchange whose fate is still to be taken in."""
        return self._x

    def took(self, x: Exchange) -> Exchange | None:
        """Take in what became of an exchange: the hop that follows it, or None where it was the last one."""
        op, outgoing = self._send, self._outgoing
        assert op is not None and self.visit is not None, "an exchange comes from a request"
        if outgoing is not None:
            if self.jar is not None:
                self._scenario.take_cookies(x, outgoing, self.jar)
            location = self._scenario.location(x, self._followed)
            if location is not None:
                hop = self._hop(x, outgoing, location)
                if hop is not None:
                    return hop
        self._x = None
        if x.error is None:
            op.judge.judge(x, self.visit.vars)
        self._settle(x)
        if x.error is not None:
            self.failed(op)
        return None

    def _hop(self, last: Exchange, outgoing: Outgoing, location: str) -> Exchange | None:
        x = Exchange(last.name, last.timeout_ns, last.keep_body)
        x.hop = True
        self._followed += 1
        try:
            self._load(x, outgoing.redirected(last.status or 0, location))
        except Refused as refused:
            # The hop never became a request: it is the response that led nowhere which failed.
            last.error = str(refused)
            return None
        self._settle(last)
        self._x = x
        return x
