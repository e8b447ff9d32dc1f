"""Allowed targets: what an entry allows, what it does not, and that a list is read whole or refused by its entry."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.targets import AllowedTargets

ALLOWED = [
    ("shop.example.com", "shop.example.com", 80),
    ("shop.example.com", "SHOP.Example.com.", 80),
    ("Shop.Example.COM.", "shop.example.com", 80),
    ("*.example.com", "a.b.example.com", 443),
    ("api-*.example.com", "api-7.example.com", 80),
    ("localhost", "localhost", 8000),
    ("bücher.example", "xn--bcher-kva.example", 80),
    ("example.com:8000-8100", "example.com", 8100),
    ("nowhere, example.com:80\nother", "example.com", 80),
    ("*", "anything.at.all", 1),
    ("*:443", "anything.at.all", 443),
]
REFUSED = [
    ("shop.example.com", "shop.example.com.evil.org", 80),
    ("shop.example.com", "xshop.example.com", 80),
    ("shop.example.com", "shopxexample.com", 80),
    ("*.example.com", "example.com", 80),
    ("*.example.com", "evilexample.com", 80),
    ("example.com:443", "example.com", 80),
    ("example.com:8000-8100", "example.com", 8101),
    ("*:443", "example.com", 80),
    ("10.0.0.0/8", "example.com", 80),
]


@pytest.mark.parametrize(("text", "host", "port"), ALLOWED)
def test_names_that_are_allowed(text: str, host: str, port: int) -> None:
    found = AllowedTargets.parse(text)
    assert found.allows_name(host, port) and not found.never(host, port)


@pytest.mark.parametrize(("text", "host", "port"), REFUSED)
def test_names_that_are_not(text: str, host: str, port: int) -> None:
    assert not AllowedTargets.parse(text).allows_name(host, port)


@pytest.mark.parametrize(
    ("text", "address", "port", "allowed"),
    [
        ("10.0.0.0/8", "10.255.0.1", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/8:80-90", "10.0.0.1", 91, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 81, False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 80, True),
        ("::/0", "::ffff:10.0.0.1", 80, False),
        ("fd00::/8", "fd00::1", 80, True),
        ("fd00::/8", "fe80::1%eth0", 80, False),
        ("fe80::/10", "fe80::1%eth0", 80, True),
        ("[fd00::/8]:443", "fd00::1", 443, True),
        ("[fd00::/8]:443", "fd00::1", 80, False),
        ("127.0.0.0/8", "0.0.0.0", 80, False),
        ("*.example.com", "10.0.0.1", 80, False),
        ("*:80", "10.0.0.1", 80, True),
        ("10.0.0.0/8", "not an address", 80, False),
    ],
)
def test_addresses(text: str, address: str, port: int, allowed: bool) -> None:
    found = AllowedTargets.parse(text)
    assert found.allows_address(address, port) is allowed
    if ":" not in address or "." not in address:
        assert found.never(address, port) is (not allowed and address != "not an address")


def test_a_name_need_not_be_looked_up_where_no_address_could_be_allowed() -> None:
    assert AllowedTargets.parse("shop.example.com").never("other.example.com", 80)
    assert AllowedTargets.parse("10.0.0.0/8:443").never("other.example.com", 80)
    assert not AllowedTargets.parse("10.0.0.0/8:443").never("other.example.com", 443)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not one target is named"),
        (" , ", "not one target is named"),
        ("example.com, 10.0.0.5/8", r"'10\.0\.0\.5/8': did you mean 10\.0\.0\.0/8\?"),
        ("10.*", "a block"),
        ("1*.2.3.4", "a block"),
        ("example.*", "asterisk"),
        ("a.*.com", "asterisk"),
        ("exam*", "asterisk"),
        ("example.com:0", "not a port"),
        ("example.com:90-80", "not a port"),
        ("example.com:70000", "not a port"),
        ("example.com:", "not a port"),
        ("http://example.com", "not a"),
        ("10.0.0.0/33", "not an address"),
        ("[10.0.0.0/8]:80", "brackets"),
        ("[fd00::/8", "not a"),
        (":80", "not a host"),
        ("a..b", "not a host"),
    ],
)
def test_what_is_no_list_is_refused_by_its_entry(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AllowedTargets.parse(text)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_block_allows_its_addresses_and_no_others(base: object, length: int, other: ipaddress.IPv4Address) -> None:
    block = ipaddress.ip_network(f"{base}/{length}", strict=False)
    found = AllowedTargets.parse(str(block))
    assert found.allows_address(str(block.broadcast_address), 80)
    assert found.allows_address(str(other), 80) is (other in block)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_as_a_value(text: str) -> None:
    try:
        found = AllowedTargets.parse(text)
    except ValueError:
        return
    for host in ("example.com", "10.0.0.1", "::1", text):
        if found.never(host, 80):
            assert not found.allows_name(host, 80) and not found.allows_address(host, 80)
