"""Which addresses may be connected to, asked of the very address that a socket is about to connect to.

A check of the URL alone is no check: a name may resolve to anything, to something else a second later, and a redirect
may lead anywhere. So the rule is asked twice, both times with what the connection will use: by the resolver, which
drops forbidden answers, and by the factory of sockets, which sees the numeric address of each attempt and is passed by
literal addresses too, which never meet a resolver.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Public by their number, yet answered by the machine's own host or network.
ALSO_FORBIDDEN = (
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's metadata and DNS
    ipaddress.ip_network("192.0.0.0/24"),  # IETF protocol assignments, RFC 6890; a cloud's metadata among them
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.ip_network("2002::/16"),  # 6to4, retired by RFC 7526: wraps any IPv4 address, and Pythons differ on it
    ipaddress.ip_network("64:ff9b:1::/48"),  # local NAT64, RFC 8215
    ipaddress.ip_network("fec0::/10"),  # site-local, RFC 3879
    ipaddress.ip_network("3fff::/20"),  # documentation, RFC 9637, which Pythons of before do not know
)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that IANA gives out of IPv6, RFC 4291
CARRIERS = (  # IPv6 addresses that are nothing but a wrapped IPv4 one, in their last 32 bits
    ipaddress.ip_network("::/96"),  # compatible, RFC 4291
    ipaddress.ip_network("::ffff:0:0/96"),  # mapped, RFC 4291
    ipaddress.ip_network("64:ff9b::/96"),  # NAT64, RFC 6052
)
HOST_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


class ForbiddenAddress(OSError):
    """An address that the rule does not allow. An OSError, so that aiohttp hands it on as a failure to connect."""


class AddressRule:
    """Public addresses are allowed; loopback, private, link-local, multicast, reserved and metadata ones are not.

    Args:
        allow_private: True for any address; or the host names, addresses and networks that are allowed all the same,
            as in ["images.internal", "10.1.2.3", "fd00::/8"]. A name allows what that name resolves to, for it alone.

    Raises:
        ValueError: an entry is neither a host name nor an address nor a network.
    """

    def __init__(self, allow_private: bool | Sequence[str] = False) -> None:
        if isinstance(allow_private, str):
            raise ValueError(f"allow_private must be true, false or a list, not the string {allow_private!r}")
        self._all = allow_private is True
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: set[str] = set()
        for entry in [] if isinstance(allow_private, bool) else allow_private:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not HOST_NAME.fullmatch(entry.lower()) or literal_address(entry):
                    raise ValueError(
                        f"allow_private: {entry!r} is neither a host name nor an address nor a network like 10.0.0.0/8"
                    ) from None
                self._names.add(entry.lower().rstrip("."))
        self._resolved: set[Address] = set()  # what the allowed names were found to be

    def allows(self, address: Address) -> bool:
        return self._all or all(
            _is_public(part) or any(part in network for network in self._networks if network.version == part.version)
            for part in _parts(address)
        )

    def allows_answer(self, name: str, address: Address) -> bool:
        """Whether `name` may resolve to `address`."""
        if name.lower().rstrip(".") in self._names:
            self._resolved.add(address)
            return True
        return self.allows(address)

    def make_socket(self, address_info: tuple) -> socket.socket:
        """For aiohttp's connector: a socket, if the rule allows what it is about to be connected to.

        Raises:
            ForbiddenAddress: it does not.
        """
        family, kind, protocol, _, target = address_info
        address = _numeric(target[0])
        if not self.allows(address) and address not in self._resolved:
            raise ForbiddenAddress(f"{address} is not a public address")
        return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """Drops the answers of `inner` that the rule forbids.

    Raises, on resolving:
        ForbiddenAddress: there were answers, and none is left.
    """

    def __init__(self, inner: AbstractResolver, rule: AddressRule) -> None:
        self._inner = inner
        self._rule = rule

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._inner.resolve(host, port, family)
        allowed = [answer for answer in answers if self._rule.allows_answer(host, _numeric(answer["host"]))]
        if answers and not allowed:
            raise ForbiddenAddress(f"it resolves to {answers[0]['host']}, which is not a public address")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def literal_address(host: str) -> Address | None:
    """The address that a URL's host spells, or None for a name.

    Understands what the C library does and browsers do, and what a filter by text would miss: 127.1, 2130706433,
    0x7f.1, 017700000001, [::1], [fe80::1%eth0].
    """
    host = host.strip("[]").rstrip(".")
    try:
        return _numeric(host)
    except ValueError:
        pass
    if not re.fullmatch(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*", host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _numeric(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _is_public(address: Address) -> bool:
    # Python's tables follow IANA's and differ between patch releases: ask every question that they answer.
    return (
        address.is_global
        and not address.is_private
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_loopback
        and not address.is_link_local
        and not address.is_unspecified
        and (address.version == 4 or address in GLOBAL_UNICAST)
        and not any(address in network for network in ALSO_FORBIDDEN if network.version == address.version)
    )


def _parts(address: Address) -> list[Address]:
    """The addresses that a packet to this one may end at. (Teredo's, 2001::/32, are not public themselves.)"""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if any(address in network for network in CARRIERS) and int(address) > 1:  # :: and ::1 are themselves
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]
