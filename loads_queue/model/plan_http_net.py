"""How connections are made: certificates, names and addresses, and how long a connection lives."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from .plan_fields import At, Field, Fields, Kind, ListOf, MapOf, Scalar, choice, flag, text
from .plan_urls import HOST_NAME
from .scenario import DNS_PICK, DNS_RESOLVE
from .template import Ref, Template, TemplateError
from .units import shown

MOST_ADDRESSES = 1000


class SecretName(Kind):
    """``${secret.NAME}`` and nothing else: what stands in a plan travels, and is shown, and is no secret."""

    def read(self, value: object, at: At) -> Any:
        try:
            parts = Template.parse(value).parts if isinstance(value, str) else ()
        except TemplateError as error:
            return at.problem(str(error))
        if len(parts) == 1 and isinstance(parts[0], Ref) and parts[0].startswith("secret."):
            return None if at.template(str(value)) is None else value
        return at.problem("is the name of a secret of the workers, as ${secret.CLIENT_KEY}: a key stands in no plan")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\$\{ *secret\."}


def _address(value: object) -> str:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise ValueError(f"not an IP address, without a port: {shown(value)}") from None


def _name_problem(name: str) -> str | None:
    return None if HOST_NAME.fullmatch(name) else "not a host's name, without a port"


class Hosts(Kind):
    """Names with their addresses, as ``[[name, [address, ...]], ...]``, names in lower case."""

    def read(self, value: object, at: At) -> Any:
        found = _HOSTS.read(value, at)
        if found is None:
            return None
        if len({name.lower() for name in found}) < len(found):
            at.problem("the same name twice, apart from capitals")
        return [[name.lower().rstrip("."), addresses] for name, addresses in found.items()]

    def schema(self) -> dict[str, Any]:
        return _HOSTS.schema()


class _TlsFields(Fields):
    """Fields of which two go together."""

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "dependentRequired": {"cert": ["key"], "key": ["cert"]}}


ADDRESS = Scalar(_address, {"type": "string"})
_HOSTS = MapOf(ListOf(ADDRESS, most=MOST_ADDRESSES), _name_problem)
TLS = _TlsFields(
    {
        "verify": Field(flag(), "Whether the target's certificate must be right.", default=True),
        "ca": Field(text("a file's name"), "A file of certificates to trust; default: the system's."),
        "cert": Field(text("a file's name"), "The client's own certificate, and what leads to its root, as PEM."),
        "key": Field(SecretName(), "Its private key, which the workers have: ${secret.NAME}."),
    }
)
DNS = Fields(
    {
        "resolve": Field(
            choice(*DNS_RESOLVE), "`cached`: for a minute; `each`: for every new connection.", default="cached"
        ),
        "pick": Field(
            choice(*DNS_PICK),
            "`rotate`: each new connection takes the next one; `pin`: a user keeps one.",
            default="rotate",
        ),
        "hosts": Field(Hosts(), "Addresses of names that are not looked up: {NAME: [ADDRESS, ...]}.", default={}),
    }
)


def check_tls(given: object, at: At) -> None:
    """Report a certificate without its key, and a key without its certificate."""
    if isinstance(given, dict) and ("cert" in given) != ("key" in given):
        at.problem("cert and key go together")


def check_connections(given: object, found: Mapping[str, Any], requests: Sequence[Mapping[str, Any]], at: At) -> None:
    """Report what contradicts ``keep_alive: false``, and note what says nothing beside it."""
    if not isinstance(given, dict) or found["keep_alive"] is not False:
        return
    if any(name.lower() == "connection" for owner in (found, *requests) for name, _ in owner["headers"] or []):
        at.down("keep_alive").problem("the plan has a Connection header too: leave one of them out")
    for key in ("reuse", "connections_per_user"):
        if key in given:
            at.down(key).warning("says nothing beside keep_alive: false, which closes every connection anyway")


def note_shared(given: object, spec: Mapping[str, Any], at: At) -> None:
    """Note what is a user's in the ``http`` of a step whose iterations share their connections, having no users."""
    if not isinstance(given, dict) or not spec["connections"]["reuse"]:
        return
    if "connections_per_user" in given:
        at.down("connections_per_user").warning("not used: the iterations of a rate share their connections")
    if spec["dns"]["pick"] == "pin":
        at.down("dns").down("pick").warning("is rotate here: the iterations of a rate share their connections")
