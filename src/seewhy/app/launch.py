"""Starting the page's server: on this machine alone unless told otherwise, and as closed as Streamlit can be."""

import importlib.util
import math
import os
import sys
from pathlib import Path

from seewhy.failure import Fatal
from seewhy.study import Study

HOST = "127.0.0.1"
HERE = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches, and the names by which a page there may be asked for."""
PAGE = Path(__file__).parent / "page.py"


def launch(study: Study, path: str, *, host: str = HOST, port: int | None = None, limit: int | None = None) -> None:
    """Becomes the server, which runs until it is interrupted.

    Raises:
        Fatal: Streamlit is not installed, or the study is one of videos.
    """
    if study.manifest.video is not None:
        raise Fatal("the app shows and asks about images, and this study is one of videos: see its report")
    if importlib.util.find_spec("streamlit") is None:
        raise Fatal("the app needs Streamlit: pip install seewhy[app]")
    if host not in HERE:
        print(
            f"seewhy: whoever reaches {host} can see the study's images, run its models and spend what a service costs",
            file=sys.stderr,
        )
    sys.stdout.flush()
    asked = command(study, path, host=host, port=port, limit=limit)
    os.execv(asked[0], asked)  # in this process's place, so that Ctrl-C and kill reach the server itself


def command(study: Study, path: str, *, host: str, port: int | None, limit: int | None) -> list[str]:
    """The command line of the server.

    Flags go before environment variables and configuration files of Streamlit's, which a folder may bring along.
    The address that the browser is told keeps Streamlit from asking the internet for its own.

    Args:
        port: None: the first that is free from 8501 on.
    """
    settings: dict[str, object] = {
        "global.developmentMode": False,
        "server.headless": True,
        "server.address": host,
        "browser.serverAddress": host if host in HERE else "localhost",
        "browser.gatherUsageStats": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.xsrfCookieSameSite": "strict",
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.maxUploadSize": math.ceil(study.fetch.max_bytes / 1e6),
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "runner.magicEnabled": False,
    }
    if port is not None:
        settings["server.port"] = port
    flags = [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()]
    if host in HERE:  # a page of another name that resolves to here is refused
        flags += [f"--server.allowedHosts={name}" for name in HERE]
    rest = [path] if limit is None else [path, str(limit)]
    return [sys.executable, "-m", "streamlit", "run", str(PAGE), *flags, "--", *rest]
