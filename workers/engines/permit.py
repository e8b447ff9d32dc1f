"""What an engine may do, and when it asks for more: pure."""

from __future__ import annotations


class Permit:
    """Time and cumulative bounds within which work may be started; nothing before the first one came."""

    __slots__ = ("_asked_iterations", "_asked_requests", "iterations", "requests", "until")

    def __init__(self) -> None:
        self.until = 0
        """CLOCK_BOOTTIME nanoseconds."""
        self.iterations = 0
        self.requests = 0
        self._asked_iterations = 0
        self._asked_requests = 0

    def replace(self, until: int, iterations: int, requests: int, used_iterations: int, used_requests: int) -> None:
        """A newer permit, and how much of it is used already; half of what is left may be used before it asks."""
        self.until = until
        self.iterations = iterations
        self.requests = requests
        self._asked_iterations = used_iterations + max(0, iterations - used_iterations) // 2
        self._asked_requests = used_requests + max(0, requests - used_requests) // 2

    def hungry(self, used_iterations: int, used_requests: int) -> bool:
        """Whether more than half of the room of the last permit is used, or there was none."""
        return (
            used_iterations > self._asked_iterations
            or used_requests > self._asked_requests
            or used_iterations >= self.iterations
            or used_requests >= self.requests
        )
