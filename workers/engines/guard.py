"""The worker's own word on where its engines may send, whatever a plan or a target says.

Every connection's addresses come through here after their name was looked up; what is not allowed is never connected
to, and a host that can't be allowed is not even looked up. Redirects connect like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from loads_queue.model.targets import AllowedTargets

from .connection import Address
from .errors import Refused
from .urls import Origin

REFUSED = "refused: by this worker's allowed targets"


class Guard:
    """What ``LOADS_ALLOWED_TARGETS`` allows; an empty text allows everything. Raises ValueError for another one."""

    def __init__(self, text: str = "") -> None:
        self._allowed = AllowedTargets.parse(text) if text else None

    def check_origins(self, origins: Iterable[Origin], hosts: Mapping[str, Sequence[str]] | None = None) -> None:
        """Raise ValueError where one of them can never be allowed: then no request of the step need be tried.

        ``hosts`` has the addresses that the plan itself gives for names.
        """
        for origin in origins:
            if self._never(origin, (hosts or {}).get(origin.host)):
                raise ValueError(
                    f"{origin.authority} is not among this worker's allowed targets (LOADS_ALLOWED_TARGETS)"
                )

    def _never(self, origin: Origin, given: Sequence[str] | None) -> bool:
        if self._allowed is None:
            return False
        if given is None:
            return self._allowed.never(origin.host, origin.port)
        return not any(self._allowed.allows_address(address, origin.port) for address in given)

    def check_host(self, host: str, port: int) -> None:
        """Raise Refused where no address of a host would be allowed."""
        if self._allowed is not None and self._allowed.never(host, port):
            raise Refused(REFUSED)

    def allowed(self, host: str, port: int, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        """Those of a host's addresses that may be connected to; raises Refused where there are none."""
        if self._allowed is None or self._allowed.allows_name(host, port):
            return addresses
        return self.allowed_addresses(port, addresses)

    def allowed_addresses(self, port: int, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        """Those that may be connected to by themselves; raises Refused where there are none.

        For addresses that a plan gives for a name: a name is allowed wherever its own name server says it leads, not
        wherever a plan says so.
        """
        if self._allowed is None:
            return addresses
        found = tuple(each for each in addresses if self._allowed.allows_address(str(each[1][0]), port))
        if not found:
            raise Refused(REFUSED)
        return found
