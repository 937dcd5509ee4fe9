"""What broke between here and a server: one name for each error of aiohttp, by its type and error numbers alone.

What a name means for a row is its user's to say: an image's host that does not exist is the manifest's fault, a
service's may be back in a minute.
"""

import socket
import zlib

import aiohttp

NO_SUCH_HOST = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)}

BEFORE_SENDING = frozenset(
    {"bad_certificate", "bad_url", "connect_failed", "connect_timeout", "dns_failed", "no_such_host", "tls_failed"}
)
"""With these no request has gone out; with any other nobody knows what the server did."""

# In order: the first that fits names the reason.
_REASONS: list[tuple[type[Exception] | tuple[type[Exception], ...], str]] = [
    (aiohttp.ClientConnectorCertificateError, "bad_certificate"),
    (aiohttp.ClientSSLError, "tls_failed"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (aiohttp.SocketTimeoutError, "stalled"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorError, "connect_failed"),
    (aiohttp.ClientPayloadError, "incomplete_body"),
    (aiohttp.ClientResponseError, "bad_response"),  # it does not speak HTTP
    (zlib.error, "bad_encoding"),
    (aiohttp.InvalidURL, "bad_url"),
    ((aiohttp.ClientError, OSError), "disconnected"),
    (ValueError, "bad_url"),  # a host that cannot be encoded
]


def reason_of(error: Exception) -> str:
    """A short name for what aiohttp raised. What is no trouble of a connection is raised again: a bug of ours."""
    cause = cause_of(error)
    if isinstance(cause, socket.gaierror):  # the resolver's own trouble passes, a name that is not registered stays so
        return "no_such_host" if cause.errno in NO_SUCH_HOST else "dns_failed"
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return reason
    raise error


def cause_of(error: Exception) -> Exception:
    """What the operating system said, where aiohttp wraps it."""
    return getattr(error, "os_error", error)
