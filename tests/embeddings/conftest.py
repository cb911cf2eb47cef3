from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_keys_or_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of this machine is used, and no proxy stands before a server on loopback."""
    for name in [
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "CO_API_KEY",
        "CO_API_URL",
        "OLLAMA_HOST",
        "OLLAMA_API_KEY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ]:
        monkeypatch.delenv(name, raising=False)
