"""Predictions and their figures over HTTP.

``POST /predict`` takes normalised images as a NumPy file (``.npy``, float32 ``(N, C, H, W)``) and answers
JSON with classes and probabilities. ``GET /metrics`` is Prometheus' text, ``GET /status`` the same as JSON.
"""

from __future__ import annotations

import io
import json
import math
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from workbench.errors import WorkbenchError

from .features import probabilities
from .metrics import exposition
from .reference import MonitorError
from .watch import Monitor

#: What ``/metrics`` says where the library is missing; ``/status`` needs none.
NO_PROMETHEUS = "Figures for Prometheus need prometheus-client: pip install 'compression-workbench[monitor]'."
#: What a request holds.
BODY = "a NumPy file (.npy) of normalised images, float32 (N, C, H, W)"
#: A request with more bytes is refused before it is read.
LONGEST = 2**26


class MonitorServer(ThreadingHTTPServer):
    """Serves one monitor; listens as soon as it is made."""

    daemon_threads = True

    def __init__(self, monitor: Monitor, model: str, host: str = "127.0.0.1", port: int = 9109) -> None:
        """Port 0 takes a free one. Raises ``MonitorError`` where the port is in use, or none."""
        self.monitor, self.model = monitor, model
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or "ports are 0 to 65535").lower()
            raise MonitorError(f"Nothing can listen at {host}:{port}: {reason}; choose another --port.") from error

    @property
    def url(self) -> str:
        """The address."""
        host, port = self.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: MonitorServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            try:
                text = exposition(self.server.monitor, self.server.model)
            except ImportError:
                self._json(HTTPStatus.NOT_IMPLEMENTED, {"error": NO_PROMETHEUS})
                return
            self._answer(HTTPStatus.OK, text, "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/status":
            self._json(HTTPStatus.OK, dict(self.server.monitor.status()))
        elif self.path == "/predict":
            self._json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"Images are sent by POST: {BODY}."})
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "There is /predict, /metrics and /status."})

    def do_POST(self) -> None:
        if self.path != "/predict":
            self.close_connection = True  # its body is not read, and would be taken for the next request
            self._json(HTTPStatus.NOT_FOUND, {"error": "There is /predict, /metrics and /status."})
            return
        try:
            logits = self.server.monitor.logits(torch.from_numpy(self._images()))
        except WorkbenchError as refused:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(refused)})
            return
        except Exception as failed:  # what the runtime raises; the service goes on
            told = str(failed).splitlines()[0][:200]
            self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"The runtime failed: {told}"})
            return
        shares = probabilities(logits).astype(float).round(5).tolist()
        self._json(HTTPStatus.OK, {"classes": logits.argmax(1).tolist(), "probabilities": shares})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: requests are counted."""

    def _images(self) -> np.ndarray:
        told = self.headers.get("Content-Length") or "0"
        length = int(told) if told.isdecimal() else 0
        if not 0 < length <= LONGEST:
            self.close_connection = True
            raise MonitorError(f"A request tells its length, of 1 to {LONGEST:,} bytes, not '{told[:20]}'.")
        try:
            images = np.lib.format.read_array(io.BytesIO(self.rfile.read(length)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise MonitorError(f"A request's body must be {BODY}.") from error
        if images.dtype != np.float32 or images.ndim < 2 or len(images) == 0:
            raise MonitorError(f"Images must be float32 (N, C, H, W), not {images.dtype} {images.shape}.")
        return np.ascontiguousarray(images)

    def _json(self, status: HTTPStatus, data: dict[str, Any]) -> None:
        self._answer(status, json.dumps(_plain(data)).encode(), "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _plain(value: Any) -> Any:
    """Return ``value`` with null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
