"""URLs of every spelling into every refused range: nothing is connected to but the one address that is allowed.

Watched where the operating system is asked for a connection, so it does not matter what a check along the way believes.
"""

import base64
import ipaddress
import os
import socket
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from seewhy.failure import KINDS, Failure
from seewhy.fetch import Fetch
from seewhy.fetch.files import read_local
from tests.safety.watching import efforts, fuzzed, watched

ALLOWED = "127.0.0.3"

# RFC 6890 and its registries; the metadata services of clouds lie in some of them, and one apart.
V4 = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 169.254.169.254/32 172.16.0.0/12 \
192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 \
240.0.0.0/4"
V6 = "::/128 ::1/128 100::/64 64:ff9b:1::/48 2001::/32 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 \
fd00:ec2::254/128 fe80::/10 fec0::/10 ff00::/8"


def within(networks: str) -> st.SearchStrategy[Any]:
    each = [ipaddress.ip_network(one) for one in networks.split()]
    return st.sampled_from(each).flatmap(lambda one: st.integers(0, one.num_addresses - 1).map(lambda n: one[n]))


refused_v4 = within(V4).filter(lambda one: str(one) != ALLOWED)
refused_v6 = within(V6)


@st.composite
def spelt(draw: Any) -> str:
    """A refused address as the host of a URL, in one of the spellings that some library or browser understands."""
    if draw(st.booleans()) and draw(st.booleans()):
        address = draw(refused_v6)
        text = draw(st.sampled_from([str(address), address.exploded, str(address).upper()]))
        return f"[{text}{draw(st.sampled_from(['', '', '%eth0', '%25lo']))}]"
    address = draw(refused_v4)
    number, parts = int(address), str(address).split(".")
    high, low = number >> 16, number & 0xFFFF

    def one(part: str) -> str:
        ways = [part, f"0{int(part):o}", f"0x{int(part):x}", f"0X{int(part):02X}"]
        if not 8 <= int(part) < 100 or set(part) & set("89"):
            ways.append(part.zfill(3))  # else it is octal, of another address, which may well be a public one
        return str(draw(st.sampled_from(ways)))

    dotted = str(address)
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else draw(st.sampled_from(".。．｡")) for c in dotted)
    circled = "".join(chr(0x2460 + int(c) - 1) if c in "123456789" else "⓪" if c == "0" else c for c in dotted)
    last = number & 0xFFFFFF
    ways = [
        dotted, f"{dotted}.", str(number), f"0x{number:x}", f"0{number:o}", ".".join(map(one, parts)),
        f"{parts[0]}.{last}", f"{parts[0]}.{parts[1]}.{low}", f"{one(parts[0])}.0x{last:x}", wide, circled,
        "".join(f"%{ord(c):02x}" for c in dotted), f"\u200b{dotted}", f"{dotted}\u00ad",
        f"[::ffff:{dotted}]", f"[::ffff:{high:x}:{low:x}]", f"[0:0:0:0:0:FFFF:{dotted}]", f"[::{dotted}]",
        f"[64:ff9b::{dotted}]", f"[64:ff9b::{high:x}:{low:x}]", f"[2002:{high:x}:{low:x}::1]",
        f"[::ffff:0:{dotted}]", f"[2001::{high:x}:{low:x}]", f"[fe80::5efe:{dotted}]", f"[::{dotted}%lo]",
    ]  # fmt: skip
    return str(draw(st.sampled_from(ways)))


HOST_IN_URL = [
    "http://{host}:{port}/x.jpg", "HTTP://{host}:{port}/", "http://{host}/", "https://{host}:{port}/",
    " http://{host}/ ", "http://user@{host}:{port}/", "http://{allowed}@{host}:{port}/",
    "http://{allowed}:80@{host}:{port}/", "http://{host}:{port}#@{allowed}/", "http://{host}:{port}?@{allowed}/",
    "http://{host}:{port}\\@{allowed}/", "http:\\\\{host}:{port}\\", "http:/{host}:{port}/", "http:{host}:{port}/",
    "http:////{host}:{port}/", "//{host}:{port}/", "http://{host}:{port}/../..//{allowed}", "ht\ntp://{host}:{port}/",
    "http://{host}\t:{port}/", "http://{host}\0.x:{port}/", "http://a:b@c@{host}:{port}/",
    "http://{host}:{port};@{allowed}/", "http://{host}%00:{port}/", "http://{host}:0{port}/",
    "http://[{host}]:{port}/", "http://{host}%2f@{allowed}x:{port}/", "http://{host}&@{allowed}x:{port}/",
]  # fmt: skip


class Redirects(BaseHTTPRequestHandler):
    """/to/BASE64 leads there; everything else is not found. It never has an image."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        try:
            where = base64.urlsafe_b64decode(self.path.partition("/to/")[2])
        except ValueError:
            where = b""  # a redirect that was joined to the path of the one before
        where = where.replace(b"\r", b" ").replace(b"\n", b" ")
        self.send_response(302 if where else 404)
        if where:
            self._headers_buffer.append(b"Location: " + where + b"\r\n")  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    running = ThreadingHTTPServer((ALLOWED, 0), Redirects)
    running.asked = 0  # type: ignore[attr-defined]
    thread = Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


class Turncoats(AbstractResolver):
    """Every name is at the allowed address when it is asked for first, if at all, and at refused ones from then on."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in found]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=kind, proto=0, flags=0)
            for one, kind in zip(found, kinds, strict=True)
        ]

    async def close(self) -> None:
        pass


def test_no_chain_of_file_systems_reaches_an_address_or_a_file(server: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("a.png", b"secret")
    refused = f"http://{ALLOWED}:{server.server_address[1]}/x"
    asked = server.asked
    urls = [
        *(f"{outer}::{refused}" for outer in ("zip://a.png", "simplecache", "memory://a.png")),
        f"zip://a.png::file://{tmp_path}/z.zip",
        f"zip://a.png::{tmp_path}/z.zip",
        f"simplecache::file://{tmp_path}/z.zip",
    ]
    schemes = ["http", "zip", "memory", "simplecache::http", "simplecache::file"]
    stage = Fetch(tries=1, schemes=schemes)
    with watched() as seen:
        rows = stage(pa.table({"id": [str(i) for i in range(len(urls))], "source": urls})).to_pylist()
    stage.close()
    assert [row["reason"] for row in rows] == ["bad_url"] * len(urls)
    assert seen.connected == []
    assert server.asked == asked


@efforts(150, 4_000)
def test_no_spelling_and_no_detour_reaches_a_refused_address(server: Any, examples: int) -> None:
    port = server.server_address[1]
    names = Turncoats()
    stage = Fetch(
        allow_private=[ALLOWED], resolver=names, tries=2, backoff_sec=0.001, connect_timeout_sec=0.5, timeout_sec=2,
        dns_cache_sec=0,
    )  # fmt: skip
    hosts = st.tuples(st.sampled_from(HOST_IN_URL), spelt())
    resolved = st.lists(refused_v4.map(str) | refused_v6.map(str), min_size=1, max_size=3)

    @fuzzed(examples)
    @given(st.lists(hosts, min_size=1, max_size=4), st.lists(hosts, max_size=3), st.lists(resolved, max_size=2))
    def check(straight: list[Any], led: list[Any], answers: list[list[str]]) -> None:
        urls = [url.format(host=host, port=port, allowed=ALLOWED) for url, host in straight]
        for url, host in led:
            to = url.format(host=host, port=port, allowed=ALLOWED).encode("utf-8", "replace")
            urls.append(f"http://{ALLOWED}:{port}/to/{base64.urlsafe_b64encode(to).decode()}")
        names.answers = {}
        for i, refused in enumerate(answers):
            names.answers[f"bad{i}.test"] = [refused]
            names.answers[f"turn{i}.test"] = [[ALLOWED], refused]
            urls += [f"http://bad{i}.test:{port}/", f"http://turn{i}.test:{port}/", f"https://bad{i}.test/"]
        batch = pa.table({"id": [str(i) for i in range(len(urls))], "source": pa.array(urls, pa.string())})
        with watched() as seen:
            rows = stage(batch).to_pylist()
        assert {one[0] for one in seen.connected} <= {ALLOWED}
        assert (seen.changed, seen.started) == (set(), [])
        assert all(row["error_kind"] in KINDS for row in rows)

    try:
        check()
    finally:
        stage.close()
    assert server.asked > 20  # the way over the server was open


def test_the_watch_sees_a_connection(server: Any) -> None:
    """What the test above relies on: where the rule lets go, the watch tells."""
    port = server.server_address[1]
    stage = Fetch(allow_private=True, tries=1, connect_timeout_sec=2)
    with watched() as seen:
        rows = stage(pa.table({"id": ["a", "b"], "source": [f"http://2130706435:{port}/", "http://127.1:9/"]}))
    stage.close()
    assert {one[0] for one in seen.connected} == {ALLOWED, "127.0.0.1"}
    assert rows["reason"].to_pylist() == ["http_404", "connect_failed"]


OUTSIDE = b"of nobody's business"


@efforts(300, 10_000)
def test_no_path_leads_out_of_its_root(tmp_path: Path, examples: int) -> None:
    """Links, dots, doubled and escaped slashes: what is read lies below the root, and is what lies there."""
    inside, outside = tmp_path / "in", tmp_path / "in-secret"
    for folder, text in ((inside, b"mine"), (inside / "sub", b"mine"), (outside, OUTSIDE)):
        folder.mkdir()
        (folder / "x.png").write_bytes(text)
    (inside / "link").symlink_to(outside)
    (inside / "link.png").symlink_to(outside / "x.png")
    (inside / "round").symlink_to(inside / "round")
    os.mkfifo(inside / "pipe")
    pieces = st.sampled_from(
        ["..", ".", "sub", "x.png", "link", "link.png", "round", "pipe", "", "in", "in-secret", "%2e%2e", "..%2f", "\0",
         "..\\", "~", "é", "y" * 300, str(tmp_path)[1:], "etc", "passwd"]
    )  # fmt: skip
    roots = [str(inside), f"file://{inside}", f"file://localhost{inside}", str(outside), "", "file://", "/"]
    heads = st.sampled_from(roots)
    read = set()

    @fuzzed(examples)
    @given(heads, st.lists(pieces, max_size=6))
    def check(head: str, below: list[str]) -> None:
        with watched(at_most_sec=5) as seen:
            found = read_local("/".join([head, *below]), roots=[str(inside)], max_bytes=100)
        assert seen.changed == set()
        assert all(f"{path}/".startswith(f"{os.path.realpath(inside)}/") for path in seen.opened)
        read.add(found if isinstance(found, bytes) else found.reason)
        assert isinstance(found, Failure) or found == b"mine"

    check()
    assert {b"mine", "forbidden_path"} <= read


def test_escapes_in_a_path_stay_escapes(tmp_path: Path) -> None:
    name = quote("a b.png")
    (tmp_path / name).write_bytes(b"mine")
    assert read_local(f"file://{tmp_path}/{name}", roots=[str(tmp_path)], max_bytes=9) == b"mine"
