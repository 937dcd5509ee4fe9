"""One name for each trouble of a connection, and what it means to an image's row and to a call of a service."""

import os
import socket
import ssl
import zlib

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from seewhy.failure import Fatal
from seewhy.fetch.connection import reason_of
from seewhy.fetch.web import explained
from seewhy.vlm.online import by_error

HERE = URL("http://h:1/a?secret=1")
KEY = ConnectionKey("h", 1, False, True, None, None, None)
ASKED = aiohttp.RequestInfo(HERE, "GET", CIMultiDictProxy(CIMultiDict()), HERE)
REFUSED = OSError(111, os.strerror(111))


def unheard_of(number: int) -> aiohttp.ClientConnectorDNSError:
    return aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(number, "the resolver's words"))


# error, its name, the kind of an image's row, and of a call: the reason, and whether it was free for certain
TROUBLES = [
    (unheard_of(socket.EAI_NONAME), "no_such_host", "bad_input", "no_such_host", True),
    (unheard_of(socket.EAI_AGAIN), "dns_failed", "transient", "dns_failed", True),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "tls")), "tls_failed", "transient", "tls_failed", True),
    (aiohttp.ClientConnectorError(KEY, REFUSED), "connect_failed", "transient", "connect_failed", True),
    (aiohttp.ClientProxyConnectionError(KEY, REFUSED), "connect_failed", "transient", "connect_failed", True),
    (aiohttp.ConnectionTimeoutError(), "connect_timeout", "transient", "connect_timeout", True),
    (aiohttp.SocketTimeoutError(), "stalled", "transient", "stalled", False),
    (TimeoutError(), "timeout", "transient", "timeout", False),
    (aiohttp.ServerDisconnectedError(), "disconnected", "transient", "disconnected", False),
    (ConnectionResetError(104, os.strerror(104)), "disconnected", "transient", "disconnected", False),
    (aiohttp.ClientPayloadError(), "incomplete_body", "transient", "incomplete_body", False),
    (aiohttp.ClientResponseError(ASKED, ()), "bad_response", "bad_input", "malformed_answer", False),
    (zlib.error(), "bad_encoding", "bad_input", "bad_encoding", False),
    (aiohttp.InvalidURL("http:///"), "bad_url", "bad_input", "bad_url", True),
    (ValueError("label too long"), "bad_url", "bad_input", "bad_url", True),
]


@pytest.mark.parametrize(("error", "name", "kind", "reason", "free"), TROUBLES)
def test_a_trouble_has_one_name_and_what_it_means_is_its_users_to_say(error, name, kind, reason, free):
    assert reason_of(error) == name
    row = explained(error, HERE).failure
    assert (row.kind, row.reason) == (kind, name)
    assert "secret" not in row.detail
    call = by_error(error)
    assert (call.answer.failure.kind, call.answer.failure.reason, call.free) == ("transient", reason, free)


def test_a_certificate_of_somebody_else_stops_a_service_and_costs_an_image_its_row():
    error = aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "of another host"))
    assert (explained(error, HERE).failure.kind, reason_of(error)) == ("bad_input", "bad_certificate")
    with pytest.raises(Fatal, match="cannot prove who it is"):
        by_error(error)


@pytest.mark.parametrize("look", [reason_of, by_error, lambda error: explained(error, HERE)])
def test_errors_nobody_foresaw_are_not_swallowed(look):
    with pytest.raises(KeyError):
        look(KeyError("a bug of ours"))
