"""What `make check` says of dependencies: found, clean, or not asked; never clean where nobody was asked."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
BESIDE = Path(__file__).parents[1] / ".venv" / "audit" / "bin" / "pip-audit"
PIP_AUDIT = shutil.which("pip-audit") or (str(BESIDE) if BESIDE.exists() else None)


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_found_is_named_and_counted(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": []},
            {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3"]}]},
            {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
            {"name": "torch", "skip_reason": "not found on PyPI"},
        ],
        "fixes": [],
    }
    lines, found = audit.told(report)
    assert found == 2
    assert lines[:2] == [
        "audit: b 2: PYSEC-1, fixed by 2.1, 3",
        "audit: c 3: PYSEC-2, fixed by no release yet",
    ]
    assert lines[2] == "audit: 1 releases without a known vulnerability, 2 vulnerabilities to deal with"
    assert lines[3].endswith("torch")
    monkeypatch.setitem(audit.ACCEPTED, "PYSEC-2", "its command line is not used")
    lines, found = audit.told(report)
    assert found == 1
    assert lines[1].endswith("accepted: its command line is not used")


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
def test_where_nobody_can_be_asked_it_says_so(tmp_path: Path, required: str, code: int) -> None:
    failing = tmp_path / "pip-audit"
    failing.write_text("#!/bin/sh\necho 'ERROR: no route to host' >&2\nexit 1\n")
    failing.chmod(0o755)
    for program, why in ((str(tmp_path / "absent"), "is not there"), (str(failing), "ERROR: no route to host")):
        done = subprocess.run(
            [sys.executable, SCRIPT, program],
            env={**os.environ, "AUDIT": required},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code
        assert "the dependencies were NOT audited: " in done.stdout
        assert why in done.stdout


class Advisories(BaseHTTPRequestHandler):
    """Speaks the query of osv.dev, and knows of one vulnerability of one package."""

    asked: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["package"]["name"]
        self.asked.add(name)
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        affected = [{"package": {"name": "numpy", "ecosystem": "PyPI"}, "ranges": ranges}]
        known = {"id": "PYSEC-2026-1", "affected": affected, "published": "2026-01-01T00:00:00Z", "details": "x"}
        data = json.dumps({"vulns": [known]} if name == "numpy" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def advisories() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(PIP_AUDIT is None, reason="pip-audit is not installed: make audit installs it")
def test_every_release_of_the_constraints_is_asked_about(advisories: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, str(PIP_AUDIT), "--vulnerability-service", "osv", "--osv-url", advisories],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PYSEC-2026-1, fixed by 99.1" in done.stdout
    pinned = [line.split("==")[0] for line in (SCRIPT.parents[1] / "constraints.txt").read_text().splitlines() if line]
    assert len(Advisories.asked) >= len([name for name in pinned if not name.startswith("#")]) - 2
