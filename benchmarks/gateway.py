"""The gateway that all clients meet: a process of its own, with a thread for each connection.

It is told what to do on its standard input, a JSON object a line, and answers each with one on its standard output.
It ends with its input. Of the code that is measured it uses nothing.

```
{"do": "record", "compression": "zlib-stream", "events": 20000}
{"do": "mark", "compression": "zlib-stream", "warmup": 1000, "events": 18000}
{"do": "open", "run": "17", "play": {...}}
{"do": "look", "run": "17"}
{"do": "close", "run": "17"}
```

Clients connect to a path that begins with the name of their run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import sys
import threading
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.connection import Gone, Peer, Stage, play_live, play_recording
from benchmarks.play import Play
from benchmarks.recording import make_recording
from benchmarks.rest import answer
from benchmarks.streams import accept_key

__all__ = ["main"]

HOST: Final = "127.0.0.1"
_HANDSHAKE_TIMEOUT: Final = 30.0
_LONGEST_REQUEST: Final = 1 << 16
_STACK: Final = 256 * 1024
"""Bytes for each thread: there are hundreds, and none of them goes deep."""


class Gateway:
    """The stages, by the name of their run."""

    def __init__(self, certificate: str | None) -> None:
        self.stages: dict[str, Stage] = {}
        self._plain = socket.create_server((HOST, 0), backlog=1024)
        self.port: int = self._plain.getsockname()[1]
        self.tls_port = 0
        threading.Thread(target=self._accept, args=(self._plain, None), daemon=True).start()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            secure = socket.create_server((HOST, 0), backlog=1024)
            self.tls_port = secure.getsockname()[1]
            threading.Thread(target=self._accept, args=(secure, context), daemon=True).start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._serve, args=(sock, context), daemon=True).start()

    def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_HANDSHAKE_TIMEOUT)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            self._talk(sock)
        except (Gone, OSError):
            pass  # clients come and go
        finally:
            with contextlib.suppress(OSError):
                sock.close()

    def _talk(self, sock: socket.socket) -> None:
        target, headers, unread = _read_request(sock)
        parts = urlsplit(target)
        stage = self.stages.get(parts.path.split("/")[1])
        if "sec-websocket-key" not in headers:
            sock.sendall(answer(parts.path, "" if stage is None else stage.url))
            return
        if stage is None:
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        accept = accept_key(headers["sec-websocket-key"])
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode()
        )
        sock.settimeout(None)
        compression = parse_qs(parts.query).get("compress", [None])[0]
        with stage.lock:
            stage.compressions.add(compression or "none")
        (play_live if stage.play.live else play_recording)(Peer(sock, unread), stage, compression)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what one line says, and return the answer to it."""
        match order["do"]:
            case "record":
                recording = make_recording(order["compression"], order["events"])
                wire = sum(map(len, recording.frames))
                return {"events": len(recording.frames), "raw_bytes": recording.raw_bytes, "wire_bytes": wire}
            case "mark":
                recording = make_recording(order["compression"], order["warmup"] + order["events"])
                return asdict(recording.message_marks(order["warmup"], order["events"]))
            case "open":
                play = Play(**order["play"])
                self.stages[order["run"]] = Stage(play, order["url"])
                return {}
            case "look":
                return self.stages[order["run"]].seen()
            case "close":
                stage = self.stages.pop(order["run"])
                stage.together.abort()
                return stage.seen()
        raise ValueError(f"no such order: {order!r}")


def _read_request(sock: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Return target and headers of a request, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(1 << 14)
        if not more or len(data) > _LONGEST_REQUEST:
            raise Gone
        data += more
    head, _, unread = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split(" ")[1], headers, unread


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--certificate", help="PEM file with key and certificate: serve TLS on a second port")
    options = parser.parse_args()
    threading.stack_size(_STACK)
    gateway = Gateway(options.certificate)
    print(json.dumps({"port": gateway.port, "tls_port": gateway.tls_port}), flush=True)
    for line in sys.stdin:
        print(json.dumps(gateway.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
