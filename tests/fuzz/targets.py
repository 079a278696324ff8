"""All targets by name, with the share of the inputs that each gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.fuzz import inflaters, protocol, wire

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz.

    Attributes:
        run: takes the bytes of one input; raises only when something is wrong.
        share: of all inputs. What starts an event loop for each input gets fewer.
        growth: how much the process may grow while it runs, in MiB.
    """

    run: Callable[[bytes], None]
    share: int = 20
    growth: int = 150


TARGETS: Final[dict[str, Target]] = {
    "envelope": Target(protocol.envelope_target),
    "plain": Target(inflaters.compression_target(None), share=5),
    "payload": Target(inflaters.compression_target("payload"), share=10),
    "zlib-stream": Target(inflaters.compression_target("zlib-stream")),
    "zstd-stream": Target(inflaters.compression_target("zstd-stream")),
    "machine": Target(protocol.machine_target),
    "events": Target(protocol.event_target),
    "commands": Target(protocol.commands_target),
    **{f"transport-{name}": Target(wire.transport_target(name), share=4) for name in wire.TRANSPORTS},
    "gateway": Target(wire.gateway_target, share=3),
}
