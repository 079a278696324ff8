"""The few questions that clients ask over HTTP before they connect."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.world import application, bot_user

__all__ = ["answer"]


def answer(path: str, gateway_url: str) -> bytes:
    """Return the whole response to a GET of ``path``; the connection is closed after it."""
    found: Any = None
    if path.endswith("/gateway/bot"):
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 64}
        found = {"url": gateway_url, "shards": 1, "session_start_limit": limit}
    elif path.endswith("/gateway"):
        found = {"url": gateway_url}
    elif path.endswith("/users/@me"):
        found = bot_user()
    elif path.endswith(("/oauth2/applications/@me", "/applications/@me")):
        found = application()
    body = json.dumps({"message": "404: Not Found", "code": 0} if found is None else found).encode()
    status = b"404 Not Found" if found is None else b"200 OK"
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )
