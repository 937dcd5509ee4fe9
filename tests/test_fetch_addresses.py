"""The rule of addresses, told with addresses of every sort, in every spelling."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.fetch.addresses import AddressRule, ForbiddenAddress, literal_address

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::10.0.0.1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::7f00:1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_public_is_forbidden(address):
    assert not AddressRule().allows(ipaddress.ip_address(address))
    assert AddressRule(True).allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address):
    assert AddressRule().allows(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_a_wrapped_address_is_judged_as_the_plain_one(plain):
    allowed = AddressRule().allows(plain)
    for wrapper in ("::ffff:0:0", "64:ff9b::"):
        assert AddressRule().allows(ipaddress.IPv6Address(int(ipaddress.IPv6Address(wrapper)) + int(plain))) == allowed
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) + (int(plain) << 80) + 1)
    assert not AddressRule().allows(six_to_four)  # whatever it wraps


def test_networks_and_addresses_can_be_allowed_alone():
    assert AddressRule(["::1"]).allows(ipaddress.ip_address("::1"))
    rule = AddressRule(["10.1.0.0/16", "127.0.0.2", "fd00::/8", "[fe80::7]"])
    for allowed in ("10.1.255.1", "127.0.0.2", "::ffff:127.0.0.2", "fd12::1", "fe80::7"):
        assert rule.allows(ipaddress.ip_address(allowed)), allowed
    for forbidden in ("10.2.0.1", "127.0.0.1", "::ffff:127.0.0.1", "::1", "fe80::8", "169.254.169.254"):
        assert not rule.allows(ipaddress.ip_address(forbidden)), forbidden


def test_a_name_is_allowed_what_it_resolves_to_and_no_other_name_is():
    rule = AddressRule(["Images.internal"])
    inside = ipaddress.ip_address("10.0.0.7")
    assert not rule.allows_answer("evil.example", inside)
    assert rule.allows_answer("images.INTERNAL.", inside)
    assert not rule.allows_answer("evil.example", inside)
    assert not rule.allows(inside)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://x", "a b", "", "10.0.0", "0x7f.1", "host/8", "x" * 300])
def test_entries_that_mean_nothing_are_refused(entry):
    with pytest.raises(ValueError, match="allow_private"):
        AddressRule([entry])


def test_a_string_is_no_list():
    with pytest.raises(ValueError, match="not the string"):
        AddressRule("10.0.0.0/8")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("1e100.net", None),
        ("example.com", None),
        ("0xcafe.example", None),
        ("256.256.256.256", None),
        ("", None),
    ],
)
def test_addresses_in_odd_spellings_are_recognised(host, address):
    assert literal_address(host) == (address and ipaddress.ip_address(address))


def test_the_socket_is_the_last_gate():
    rule = AddressRule(["127.0.0.1"])
    rule.make_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))).close()
    for family, target in ((socket.AF_INET, ("127.0.0.2", 80)), (socket.AF_INET6, ("fe80::1%lo", 80, 0, 1))):
        with pytest.raises(ForbiddenAddress):
            rule.make_socket((family, socket.SOCK_STREAM, 0, "", target))
