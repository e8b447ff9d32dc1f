"""What an engine may do, and when it asks for more: pure."""

from __future__ import annotations


class Permit:
    """Time and cumulative bounds within which work may be started; nothing before the first one came."""

    __slots__ = ("few_iterations", "few_requests", "iterations", "requests", "until")

    def __init__(self) -> None:
        self.until = 0
        """CLOCK_BOOTTIME nanoseconds."""
        self.iterations = 0
        self.requests = 0
        self.few_iterations = 0
        """From so many iterations on there is too little left of the permit, and more is asked for."""
        self.few_requests = 0

    def replace(self, until: int, iterations: int, requests: int, used_iterations: int, used_requests: int) -> None:
        """A newer permit, and how much of it is used already; half of what is left may be used before it asks."""
        self.until = until
        self.iterations = iterations
        self.requests = requests
        half_iterations = used_iterations + max(0, iterations - used_iterations) // 2
        half_requests = used_requests + max(0, requests - used_requests) // 2
        self.few_iterations = min(half_iterations + 1, iterations)
        self.few_requests = min(half_requests + 1, requests)

    def covers(self, now: int, requests: int) -> bool:
        """Whether one more request than so many may be begun."""
        return now < self.until and requests < self.requests

    def hungry(self, used_iterations: int, used_requests: int) -> bool:
        """Whether more than half of the room of the last permit is used, or there was none."""
        return used_iterations >= self.few_iterations or used_requests >= self.few_requests
