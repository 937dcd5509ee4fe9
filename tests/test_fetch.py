"""The stage against a real server on the loopback that does every wrong thing a server can do."""

import asyncio
import pickle
import socket
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from seewhy import schema
from seewhy.fetch import Fetch
from seewhy.images import image_id
from tests.bad_server import HOSTS, JPEG, Names, Server, answer


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.reset()
    return shared_server


def fetched(sources: list[str], **options) -> list[dict]:
    """Rows of a stage that may speak to 127.0.0.1, and to nothing else that is not public."""
    defaults = {
        "allow_private": ["127.0.0.1"],
        "resolver": Names(),
        "max_bytes": 20_000,
        "tries": 3,
        "backoff_sec": 0.002,
        "timeout_sec": 10,
        "stall_timeout_sec": 10,
        "connect_timeout_sec": 5,
    }
    stage = Fetch(**{**defaults, **options})
    try:
        out = stage(pa.table({"id": [f"{i:032x}" for i in range(len(sources))], "source": sources}))
    finally:
        stage.close()
    assert out.schema == schema.IMAGES
    assert out["id"].to_pylist() == [f"{i:032x}" for i in range(len(sources))]
    assert out["source"].to_pylist() == sources
    return out.to_pylist()


def outcome(row: dict) -> tuple[str | None, str | None, int]:
    return row["error_kind"], row["reason"], row["tries"]


def test_an_image_comes_with_what_the_decoder_found(server):
    (row,) = fetched([server.url("ok")])
    assert row == {
        "id": "0" * 32,
        "source": server.url("ok"),
        "image_id": image_id(JPEG),
        "image": JPEG,
        "format": "JPEG",
        "width": 32,
        "height": 16,
        "fingerprint": b"\0" * 16,  # it has no contrast
        "tries": 1,
        "error_kind": None,
        "reason": None,
        "detail": None,
    }


# path: kind, reason, requests. Of three tries at most.
OUTCOMES = {
    "ok": (None, None, 1),
    "text": (None, None, 1),  # an image is what decodes as one, whatever its content type says
    "gzip": (None, None, 1),
    "deflate": (None, None, 1),
    "gif": (None, "animated", 1),
    "to-to-ok": (None, None, 1),
    "cookie": (None, None, 1),
    "busy-twice": (None, None, 3),
    "drop-once": (None, None, 2),
    "not-found": ("bad_input", "http_404", 1),
    "gone": ("bad_input", "http_410", 1),
    "secret": ("bad_input", "http_403", 1),
    "login": ("bad_input", "http_401", 1),
    "teapot": ("bad_input", "http_418", 1),
    "unchanged": ("bad_input", "http_304", 1),
    "page": ("bad_input", "html", 1),
    "nothing": ("bad_input", "empty", 1),
    "no-content": ("bad_input", "empty", 1),
    "cut": ("bad_input", "truncated", 1),
    "large": ("bad_input", "too_large", 1),
    "endless": ("bad_input", "too_large", 1),
    "gzip-bomb": ("bad_input", "too_large", 1),
    "gzip-bad": ("bad_input", "bad_encoding", 1),
    "brotli": ("bad_input", "unsupported_encoding", 1),
    "no-http": ("bad_input", "bad_response", 1),
    "busy": ("transient", "http_503", 3),
    "limit": ("transient", "http_429", 3),
    "early": ("transient", "http_425", 3),
    "broken": ("transient", "http_500", 3),
    "cdn": ("transient", "http_522", 3),
    "drop": ("transient", "incomplete_body", 3),
    "gzip-cut": ("transient", "incomplete_body", 3),
    "hang-up": ("transient", "disconnected", 3),  # aiohttp asks twice a try
    "to-nowhere": ("bad_input", "redirect_without_location", 1),
    "to-self": ("bad_input", "redirect_loop", 1),
    "round": ("bad_input", "redirect_loop", 1),
    "on-and-on": ("bad_input", "too_many_redirects", 1),
    "to-file": ("bad_input", "redirect_forbidden_scheme", 1),
    "to-gopher": ("bad_input", "redirect_forbidden_scheme", 1),
    "to-nonsense": ("bad_input", "redirect_bad_url", 1),
    "to-no-host": ("bad_input", "redirect_no_such_host", 1),
    "to-neighbour": ("bad_input", "forbidden_address", 1),
    "to-metadata": ("bad_input", "forbidden_address", 1),
    "to-odd": ("bad_input", "forbidden_address", 1),
}


def test_every_outcome_has_its_kind_and_reason(server):
    rows = fetched([server.url(path) for path in OUTCOMES])
    assert {path: outcome(row) for path, row in zip(OUTCOMES, rows, strict=True)} == OUTCOMES
    for path, row in zip(OUTCOMES, rows, strict=True):
        assert (row["image"] is None) == (row["error_kind"] is not None), path
        if path != "ok" and not path.startswith(("to-", "round", "on-and", "cookie")):
            assert server.seen[f"/{path}"] == row["tries"] * (2 if path == "hang-up" else 1), path
    assert rows[list(OUTCOMES).index("gif")]["detail"] == "the first of 3 frames"
    hops = sum(count for path, count in server.seen.items() if path.startswith("/on-and-on"))
    assert hops == 9  # the first and eight redirects


def test_the_body_is_capped_to_the_byte_whatever_the_headers_say(server):
    def reasons(max_bytes: int) -> list[str | None]:
        paths = ("ok", "gzip", "large", "liar")
        return [row["reason"] for row in fetched([server.url(path) for path in paths], max_bytes=max_bytes)]

    assert reasons(len(JPEG)) == [None, None, "too_large", "too_large"]
    assert reasons(len(JPEG) - 1) == ["too_large"] * 4


def test_a_bomb_is_not_unpacked_before_it_is_refused(server):
    fetched([server.url("ok")])  # what a first request imports and loads is not the bomb's
    tracemalloc.start()
    (row,) = fetched([server.url("gzip-bomb")])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert row["reason"] == "too_large"
    assert peak < 3_000_000  # of the 15 MB inside


def test_a_batch_holds_each_image_once(tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    stage = Fetch(schemes=["file"], roots=[str(tmp_path)])
    before = pa.total_allocated_bytes()
    out = stage(pa.table({"id": ["a", "b", "c"], "source": [str(path), str(tmp_path / "none.png"), str(path)]}))
    copied = pa.total_allocated_bytes() - before
    stage.close()
    whole = path.read_bytes()
    assert out["image"].to_pylist() == [whole, None, whole]
    assert copied < len(whole) / 10  # of 120 kB twice: the table points at the bytes that were read


def test_pixels_are_capped(server):
    assert [row["reason"] for row in fetched([server.url("ok")], max_pixels=511)] == ["too_many_pixels"]
    assert [row["reason"] for row in fetched([server.url("ok")], max_pixels=512)] == [None]


@pytest.mark.parametrize(
    ("path", "reason", "options"),
    [
        ("hang", "stalled", {"stall_timeout_sec": 0.1}),
        ("hang-in-body", "stalled", {"stall_timeout_sec": 0.1}),
        ("hang", "timeout", {"timeout_sec": 0.1}),
        ("drip", "timeout", {"timeout_sec": 0.3, "min_bytes_per_sec": 0}),
        ("drip", "too_slow", {"stall_timeout_sec": 0.2, "min_bytes_per_sec": 500}),
    ],
)
def test_nobody_waits_for_ever(server, path, reason, options):
    start = time.monotonic()
    (row,) = fetched([server.url(path)], tries=2, **options)
    assert outcome(row) == ("transient", reason, 2)
    assert time.monotonic() - start < 3
    assert row["detail"]


def test_a_port_where_nobody_listens_is_transient():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening
        (row,) = fetched([f"http://127.0.0.1:{taken.getsockname()[1]}/x.jpg"])
    assert outcome(row) == ("transient", "connect_failed", 3)


def test_plain_http_behind_https_is_a_failure_of_tls():
    def talk_http() -> None:
        with listening.accept()[0] as connection:
            connection.sendall(answer(400))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=talk_http)
        thread.start()
        (row,) = fetched([f"https://127.0.0.1:{listening.getsockname()[1]}/x.jpg"], tries=1)
        thread.join()
    assert outcome(row) == ("transient", "tls_failed", 1)


def test_retry_after_pauses_the_host_for_as_long_as_it_says(server):
    start = time.monotonic()
    rows = fetched([server.url("wait")], backoff_sec=0)
    assert outcome(rows[0]) == (None, None, 2)
    assert 0.4 <= server.times[1] - server.times[0] < 1.5
    assert time.monotonic() - start < 2
    server.times.clear()
    (row,) = fetched([server.url("date")], backoff_sec=0)
    assert outcome(row) == (None, None, 2)
    assert 0.9 <= server.times[1] - server.times[0] < 3  # dates have whole seconds


def test_retry_after_holds_for_the_other_rows_of_the_host(server):
    fetched([server.url("wait/1"), server.url("slow/1"), server.url("ok/1")], backoff_sec=0, per_host=1)
    first, *others = server.times
    assert server.heads[0].startswith("GET /wait/1")
    assert min(others) - first >= 0.4


def test_a_pause_too_long_is_left_to_the_next_run(server):
    start = time.monotonic()
    (row,) = fetched([server.url("wait-long")], max_wait_sec=5)
    assert outcome(row) == ("transient", "http_503", 1)
    assert time.monotonic() - start < 2


def test_back_off_doubles_at_most_and_is_random(monkeypatch, server):
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    monkeypatch.setattr("random.uniform", uniform)
    fetched([server.url("busy")], tries=6, backoff_sec=0.5, max_wait_sec=3)
    assert asked == [(0, 0.5), (0, 1), (0, 2), (0, 3), (0, 3)]


def test_a_host_sees_no_more_requests_at_once_than_allowed(server):
    rows = fetched([server.url(f"slow/{i}") for i in range(24)], per_host=3, concurrency=20)
    assert [row["error_kind"] for row in rows] == [None] * 24
    assert server.most == 3


def test_all_hosts_together_see_no_more_than_allowed(server):
    urls = [server.url(f"slow/{host}/{i}", host) for i in range(12) for host in HOSTS]
    rows = fetched(urls, per_host=9, concurrency=5, allow_private=["127.0.0.0/8"])
    assert [row["error_kind"] for row in rows] == [None] * 24
    assert server.most == 5


def test_waiting_for_a_slot_does_not_count_as_time_out(server):
    rows = fetched([server.url(f"slow/{i}") for i in range(24)], concurrency=1, timeout_sec=1)  # 1.2 s in all
    assert [outcome(row) for row in rows] == [(None, None, 1)] * 24


def test_a_slow_host_holds_up_no_other(server):
    urls = [server.url(f"hang/{i}") for i in range(6)] + [server.url(f"ok/{i}", "127.0.0.2") for i in range(6)]
    options = {"per_host": 2, "concurrency": 3, "timeout_sec": 0.5, "tries": 1, "allow_private": True}
    rows = fetched(urls, **options)
    assert Counter(row["reason"] for row in rows) == {"timeout": 6, None: 6}
    order = [head.split("/")[1] for head in server.heads]  # two hang at a time, and leave a third slot to others
    assert Counter(order[:8]) == {"hang": 2, "ok": 6}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "127.0.0.02", "127.2", "2130706434", "0x7f.2", "0x7f000002", "017700000002", "[::ffff:127.0.0.2]"],
)
def test_an_address_is_refused_however_it_is_spelt(server, host):
    (row,) = fetched([server.url("ok", host)], tries=3)
    assert outcome(row) == ("bad_input", "forbidden_address", 1)
    assert not server.seen


def test_an_allowed_address_is_allowed_however_it_is_spelt(server):
    rows = fetched([server.url("ok", host) for host in ("127.1", "0x7f000001", "2130706433")])
    assert [outcome(row) for row in rows] == [(None, None, 1)] * 3


def test_the_socket_refuses_what_the_url_did_not_give_away(monkeypatch, server):
    monkeypatch.setattr("seewhy.fetch.web.literal_address", lambda host: None)  # a spelling that nobody knew
    rows = fetched([server.url("ok", "127.0.0.2"), server.url("ok", "[::ffff:127.0.0.2]"), server.url("ok")])
    assert [outcome(row)[:2] for row in rows] == [("bad_input", "forbidden_address")] * 2 + [(None, None)]
    assert server.seen == {"/ok": 1}


def test_names_are_judged_by_what_they_resolve_to(server):
    names = Names(
        good_test=[["127.0.0.1"]],
        bad_test=[["127.0.0.2"]],
        metadata_test=[["169.254.169.254"]],
        mixed_test=[["127.0.0.2", "127.0.0.1"]],
        unsure_test=[socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")],
        inside_test=[["127.0.0.2"]],
    )
    hosts = ["good.test", "bad.test", "metadata.test", "mixed.test", "unsure.test", "none.test"]
    urls = [server.url("ok", host) for host in hosts] + [server.url("to-name")]
    rows = fetched(urls, resolver=names)
    assert [outcome(row) for row in rows] == [
        (None, None, 1),
        ("bad_input", "forbidden_address", 1),
        ("bad_input", "forbidden_address", 1),
        (None, None, 1),  # its allowed address is used
        ("transient", "dns_failed", 3),
        ("bad_input", "no_such_host", 1),
        ("bad_input", "forbidden_address", 1),  # redirected to a name that is inside
    ]
    assert server.seen == {"/ok": 2, "/to-name": 1}
    assert "127.0.0.2" in rows[1]["detail"]


def test_a_name_that_is_allowed_opens_its_address_to_no_other(server):
    names = Names(images_test=[["127.0.0.2"]], evil_test=[["127.0.0.2"]])
    hosts = ("images.test", "evil.test", "127.0.0.2")
    stage = Fetch(allow_private=["images.test"], resolver=names)
    reasons = []
    for host in hosts:
        out = stage(pa.table({"id": ["a"], "source": [server.url("ok", host)]}))
        reasons += out["reason"].to_pylist()
    stage.close()
    assert reasons == [None, "forbidden_address", "forbidden_address"]


def test_a_name_cannot_change_its_address_between_check_and_connection(server):
    names = Names(turncoat_test=[["127.0.0.1"], ["127.0.0.2"]])
    (row,) = fetched([server.url("busy", "turncoat.test")], resolver=names, dns_cache_sec=0)
    # The first try was answered over a connection that was checked, and that is used again for the others.
    assert outcome(row) == ("transient", "http_503", 3)
    names = Names(turncoat_test=[["127.0.0.1"], ["127.0.0.2"]])
    (row,) = fetched([server.url("hang-up", "turncoat.test")], resolver=names, dns_cache_sec=0)
    assert outcome(row) == ("bad_input", "forbidden_address", 1)
    assert names.asked == {"turncoat.test": 2}
    assert server.seen["/hang-up"] == 1


def test_only_the_web_is_fetched_unless_told_otherwise(server):
    sources = ["file:///etc/passwd", "ftp://127.0.0.1/x", "gs://bucket/x", "data:image/png;base64,AA==", "/etc/passwd"]
    rows = fetched(sources, allow_private=True)
    assert [outcome(row) for row in rows] == [("bad_input", "forbidden_scheme", 1)] * 5
    (row,) = fetched([server.url("ok")], schemes=["https"])
    assert row["reason"] == "forbidden_scheme"


def test_urls_that_are_none_say_so():
    long_name = "http://" + "x" * 70 + ".test/"
    rows = fetched(
        ["http://", "http:///x", "http://[::1/", "http://a:99999/x", "http://a b/", long_name], resolver=None
    )
    assert [row["error_kind"] for row in rows] == ["bad_input"] * 6
    assert {row["reason"] for row in rows} <= {"bad_url", "no_such_host"}
    assert [row["reason"] for row in rows[:4]] == ["bad_url"] * 4


def test_a_signed_url_reaches_the_server_as_it_was_signed(server):
    signed = server.url("ok?X-Sig=a%2Fb%2bc%3D%3d&d=e+f&g=%20%7E")
    spaced = server.url("ok?name=two words&名=前")
    assert [row["error_kind"] for row in fetched([signed, spaced])] == [None, None]
    lines = sorted(head.splitlines()[0] for head in server.heads)
    assert lines == [
        "GET /ok?X-Sig=a%2Fb%2bc%3D%3d&d=e+f&g=%20%7E HTTP/1.1",
        "GET /ok?name=two%20words&%E5%90%8D=%E5%89%8D HTTP/1.1",
    ]


def test_what_is_sent_is_plain_and_honest(server):
    names = Names(cookie_test=[["127.0.0.1"]])  # no jar takes cookies from bare addresses
    fetched([server.url("cookie", "cookie.test")], user_agent="seewhy-test/1", resolver=names)
    first, second = server.heads
    assert "User-Agent: seewhy-test/1\r\n" in first
    assert "Accept-Encoding: identity\r\n" in first
    assert "cookie:" not in second.lower()


def test_no_proxy_is_taken_from_the_environment(monkeypatch, server):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (row,) = fetched([server.url("ok")])
    assert outcome(row) == (None, None, 1)


def test_secrets_in_urls_stay_out_of_details(server):
    def secret(path: str) -> str:
        return server.url(f"{path}?token=SECRET2").replace("://", "://user:SECRET1@")

    paths = ("ok", "busy", "hang-up", "drop", "to-self", "to-neighbour", "gzip-bad", "no-http", "on-and-on", "large")
    sources = [secret(path) for path in paths] + [secret("ok").replace("127.0.0.1", "none.test")]
    rows = fetched(sources)
    assert rows[0]["error_kind"] is None
    assert [row["error_kind"] for row in rows[1:]].count(None) == 0
    assert all(row["detail"] and "SECRET" not in row["detail"] for row in rows[1:])
    assert any("Authorization: Basic" in head for head in server.heads)


def test_credentials_do_not_follow_a_redirect_to_another_host(server):
    fetched([server.url("to-neighbour").replace("://", "://user:SECRET@")], allow_private=True)
    first, second = server.heads
    assert "Authorization" in first
    assert "Authorization" not in second


def test_connections_live_from_batch_to_batch_and_the_stage_can_be_pickled(server):
    stage = Fetch(allow_private=["127.0.0.1"], per_host=1)
    batch = pa.table({"id": ["a"], "source": [server.url("ok")]})
    connections = server.connections
    stage(batch)
    stage(batch)
    assert server.connections == connections + 1
    copy = pickle.loads(pickle.dumps(stage))
    assert copy(batch)["error_kind"].to_pylist() == [None]
    copy.close()
    assert stage(batch)["error_kind"].to_pylist() == [None]
    stage.close()
    assert stage(batch)["error_kind"].to_pylist() == [None]  # opened anew
    stage.close()
    stage.close()


def test_a_stage_that_nobody_closes_ends_quietly(server):
    lines = f"""
import pyarrow as pa
from seewhy.fetch import Fetch
stage = Fetch(allow_private=["127.0.0.1"])
assert stage(pa.table({{"id": ["a"], "source": ["{server.url("ok")}"]}}))["reason"].to_pylist() == [None]
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stage_works_where_a_loop_runs_already(server):
    async def notebook() -> list[dict]:
        return fetched([server.url("ok")])

    (row,) = asyncio.run(notebook())
    assert row["error_kind"] is None


def test_an_empty_batch_is_an_empty_table():
    assert fetched([]) == []


@pytest.mark.parametrize("name", ["tries", "concurrency", "per_host"])
def test_arguments_out_of_range_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Fetch(**{name: 0})
