"""Application default credentials, for real: the key file of a service account whose tokens the stub gives."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.vlm.gemini_stub import Stub


def key_file(home: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the file into `home`, where google-auth finds it while the test lasts; its project is ``of-the-key``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "of-the-key",
        "client_email": "a@b.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"{stub.url}/token",
    }
    (home / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "key.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
