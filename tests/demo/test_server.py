import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from seewhy.demo.server import serve


def test_serves_the_folder_and_stops(tmp_path):
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "a.jpg").write_bytes(b"\xff\xd8poster")
    with serve(tmp_path) as address:
        with urllib.request.urlopen(f"{address}/posters/a.jpg", timeout=5) as answer:
            assert answer.read() == b"\xff\xd8poster"
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{address}/posters/b.jpg", timeout=5)
        assert missing.value.code == 404
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/../../etc/passwd", timeout=5)
    place = urlsplit(address)
    assert place.hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((place.hostname, place.port), timeout=5)


def test_two_servers_do_not_collide(tmp_path):
    with serve(tmp_path) as first, serve(tmp_path) as second:
        assert first != second


def test_the_wanted_port_is_taken_where_it_is_free(tmp_path):
    with serve(tmp_path) as first:
        port = urlsplit(first).port
        with serve(tmp_path, port=port) as second:
            assert second != first
    with serve(tmp_path, port=port) as again:
        assert again == first


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"), serve(tmp_path / "nowhere"):
        pass
