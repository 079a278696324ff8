"""One connection of the gateway, in a thread of its own, with blocking calls."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.mix import encode_payload
from benchmarks.play import CLOSE, RECONNECT, RESET
from benchmarks.recording import hello, make_recording
from benchmarks.streams import CLOSE as CLOSE_FRAME
from benchmarks.streams import PING, PONG, frame, open_stream
from benchmarks.world import guild_create, ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.play import Play

__all__ = ["Gone", "Peer", "Stage", "play_live", "play_recording"]

_GATHER_TIMEOUT: Final = 60.0
"""Seconds that the connections of a run may take until all have identified."""

_SETTLE: Final = 0.4
"""Seconds of quiet before and after the first events: what a client does at its start is over by then, and what it
has read ahead is done."""

_DRAIN_TIMEOUT: Final = 2.0
"""Seconds that a client may take to close a connection that has ended."""

_ROUND_TRIP: Final = 0.02
"""Seconds until a heartbeat is acknowledged. discord.py notes the time of a beat after it is written, and would take an
answer that comes sooner for one that is an interval late, and complain."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class Gone(Exception):
    """The client is gone."""


class Peer:
    """The client's end: frames in, bytes out."""

    def __init__(self, sock: socket.socket, unread: bytes = b"") -> None:
        self.sock = sock
        self._buffer = bytearray(unread)

    def send(self, data: bytes) -> None:
        """Write all of it, however long that takes."""
        try:
            self.sock.sendall(data)
        except OSError as exc:
            raise Gone from exc

    def receive(self, deadline: float | None = None) -> Any:
        """Return the next payload of the client, or ``None`` when the deadline (monotonic) has passed."""
        while True:
            parsed = self._next_frame()
            if parsed is None:
                if not self._read(deadline):
                    return None
                continue
            opcode, data = parsed
            if opcode == CLOSE_FRAME:
                with contextlib.suppress(OSError):
                    self.sock.sendall(frame(CLOSE_FRAME, data[:2]))
                raise Gone
            if opcode == PING:
                self.send(frame(PONG, data))
            elif opcode != PONG:
                return json.loads(data)

    def _read(self, deadline: float | None) -> bool:
        try:
            if deadline is None:
                self.sock.settimeout(None)
            else:
                self.sock.settimeout(max(deadline - time.monotonic(), 1e-4))
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError as exc:
            raise Gone from exc
        finally:
            with contextlib.suppress(OSError):
                self.sock.settimeout(None)
        if not data:
            raise Gone
        self._buffer += data
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 6:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        end = start + 4 + size
        if len(buffer) < end:
            return None
        mask = (bytes(buffer[start : start + 4]) * (size // 4 + 1))[:size]
        masked = bytes(buffer[start + 4 : end])
        data = (int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
        opcode = buffer[0] & 0x0F
        del buffer[:end]
        return opcode, data

    def drain(self, seconds: float) -> None:
        """Read until the client closes, or the time is over."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(Gone, ValueError):
            while time.monotonic() < deadline:
                self.receive(deadline)

    def reset(self) -> None:
        """Tear the connection down."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()


class Stage:
    """What the connections of one run have in common, and what was seen there."""

    def __init__(self, play: Play, url: str) -> None:
        self.play = play
        self.url = url
        self.together = threading.Barrier(play.connections)
        self.lock = threading.Lock()
        self.compressions: set[str] = set()
        self.identifies = self.resumes = 0
        self.left = list(play.disconnects)
        self.broken: tuple[str, float] | None = None
        self.recoveries: list[tuple[str, float]] = []
        self.send_latencies: list[float] = []

    def seen(self) -> dict[str, Any]:
        """Return what was seen so far; times in seconds."""
        with self.lock:
            return {
                "compressions": sorted(self.compressions),
                "identifies": self.identifies,
                "resumes": self.resumes,
                "recoveries": list(self.recoveries),
                "send_latencies": list(self.send_latencies),
                "left": len(self.left) + (self.broken is not None),
            }

    def entered(self, *, resumed: bool) -> None:
        """A connection identified, or resumed."""
        now = time.monotonic()
        with self.lock:
            if resumed:
                self.resumes += 1
            else:
                self.identifies += 1
            if self.broken is not None:
                how, when = self.broken
                self.recoveries.append((how, now - when))
                self.broken = None


def play_recording(peer: Peer, stage: Stage, compression: str | None) -> None:
    """Greet, wait for the others, and play."""
    play = stage.play
    recording = make_recording(compression, play.warmup + play.events)
    peer.send(recording.hello)
    while peer.receive()["op"] != 2:
        pass  # heartbeats
    stage.entered(resumed=False)
    peer.send(recording.greeting)
    for begin, end in ((0, play.warmup), (play.warmup, play.warmup + play.events)):
        try:
            stage.together.wait(_GATHER_TIMEOUT)
        except threading.BrokenBarrierError:
            raise Gone from None
        time.sleep(_SETTLE)
        _send_frames(peer, recording.frames[begin:end], play.rate)
    while True:
        peer.receive()


def _send_frames(peer: Peer, frames: Sequence[bytes], rate: float) -> None:
    if not rate:
        peer.send(b"".join(frames))
        return
    due = time.monotonic()
    for each in frames:
        time.sleep(max(0.0, due - time.monotonic()))
        peer.send(each)
        due += 1 / rate


class _Live:
    """A connection on which the gateway answers."""

    def __init__(self, peer: Peer, stage: Stage, compression: str | None) -> None:
        self._peer = peer
        self._stage = stage
        self._encode = open_stream(compression)
        self._sequence = 0
        self._is_open = False
        self._ack_due: float | None = None

    def run(self) -> None:
        self._say(hello(self._stage.play.interval))
        while not self._is_open:
            self._answer_next(None)
        deadline = time.monotonic() + self._stage.play.pause if self._stage.left else None
        while deadline is None or time.monotonic() < deadline:
            self._answer_next(deadline)
        self._break(self._stage.left.pop(0))

    def _answer_next(self, deadline: float | None) -> None:
        """Take what comes before the deadline, or acknowledge a heartbeat when that is due."""
        moments = [moment for moment in (deadline, self._ack_due) if moment is not None]
        payload = self._peer.receive(min(moments) if moments else None)
        if payload is not None:
            self._take(payload)
        if self._ack_due is not None and time.monotonic() >= self._ack_due:
            self._ack_due = None
            self._say(b'{"t":null,"s":null,"op":11,"d":null}')

    def _say(self, payload: bytes) -> None:
        self._peer.send(self._encode(payload))

    def _take(self, payload: Any) -> None:
        arrived = time.monotonic_ns()
        stage = self._stage
        match payload["op"]:
            case 1:
                self._ack_due = time.monotonic() + _ROUND_TRIP
            case 2:
                stage.entered(resumed=False)
                shard = payload["d"].get("shard") or (0, 1)
                with_guild = stage.play.with_guild
                data = ready(stage.url, shard=(shard[0], shard[1]), with_guild=with_guild)
                self._dispatch("READY", data)
                if with_guild:
                    self._dispatch("GUILD_CREATE", guild_create())
                self._is_open = True
            case 4:
                # The command says when it was sent: all clocks of the machine are this one.
                stage.send_latencies.append((arrived - int(payload["d"]["channel_id"])) / 1e9)
            case 6:
                stage.entered(resumed=True)
                self._sequence = payload["d"]["seq"]
                self._dispatch("RESUMED", {"_trace": []})
                self._is_open = True

    def _dispatch(self, name: str, data: dict[str, Any]) -> None:
        self._sequence += 1
        self._say(encode_payload(name, self._sequence, data))

    def _break(self, how: str) -> None:
        with self._stage.lock:
            self._stage.broken = how, time.monotonic()
        if how == RESET:
            self._peer.reset()
            return
        if how == RECONNECT:
            self._say(b'{"t":null,"s":null,"op":7,"d":null}')
        elif how == CLOSE:
            self._peer.send(frame(CLOSE_FRAME, struct.pack(">H", 4000) + b"Unknown error."))
        self._peer.drain(_DRAIN_TIMEOUT)


def play_live(peer: Peer, stage: Stage, compression: str | None) -> None:
    """Answer until the client is gone, or the play says that the connection ends."""
    _Live(peer, stage, compression).run()
