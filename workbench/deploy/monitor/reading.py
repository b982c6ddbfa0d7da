"""The figures of a monitor that runs elsewhere, over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .reference import MonitorError

SECONDS = 3.0
#: A status is a few kilobytes; more is something else.
_LONGEST = 2**20
_NEEDED = ("predictions", "failures", "alarms", "latency_ms", "classes", "drift", "latest", "normal")


def read_status(url: str, seconds: float = SECONDS) -> Mapping[str, Any]:
    """Return ``Monitor.status()`` of the ``workbench serve-monitor`` at ``url``, such as ``http://127.0.0.1:9109``.

    Numbers that JSON cannot hold come as None. Raises ``MonitorError`` where no monitor answers there.
    """
    parts = urlsplit(url.strip())
    if parts.scheme != "http" or not parts.hostname:
        raise MonitorError("Give a monitor's address as serve-monitor prints it, such as http://127.0.0.1:9109.")
    told: Any = None
    try:
        link = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=seconds)
        try:
            link.request("GET", "/status")
            answer = link.getresponse()
            told = json.loads(answer.read(_LONGEST)) if answer.status == http.client.OK else None
        finally:
            link.close()
    except (OSError, ValueError, http.client.HTTPException):
        told = None
    if not isinstance(told, dict) or any(name not in told for name in _NEEDED):
        where = parts.netloc.rpartition("@")[2]
        raise MonitorError(
            f"No monitor answers at {where}: start one with `workbench serve-monitor`, or mend the address."
        )
    return {name: told[name] for name in (*_NEEDED, "shadow") if name in told}
