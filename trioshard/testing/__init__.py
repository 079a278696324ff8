"""A Discord gateway for tests: it behaves as Discord does, and is strict.

:func:`open_local_gateway` opens one, in this process, over TCP or purely in memory. It needs nothing of the rest of
trioshard, and any client may be judged by it. What shall go wrong is told by a :class:`Scenario`. ::

    async with open_local_gateway(port=None, scenario=Scenario([[After("ready"), Reconnect()]])) as gateway:
        ...  # connect a bot to gateway.url through gateway.dial
        gateway.send_message("hello")
        await gateway.wait_resumed(1)
        assert not gateway.report.violations
"""

from trioshard.testing._churn import Churn
from trioshard.testing._connection import GatewayConnection
from trioshard.testing._gateway import LocalGateway, open_local_gateway
from trioshard.testing._memory import MemoryStream, memory_stream_pair
from trioshard.testing._payloads import Guild
from trioshard.testing._report import (
    Arrival,
    IdentifyAttempt,
    InteractionCallback,
    Report,
    ReportSnapshot,
    SessionStatistics,
    Violation,
)
from trioshard.testing._rules import Phase
from trioshard.testing._steps import Action, Conduct, Moment, Powers, Setting
from trioshard.testing.faults import (
    After,
    BigMessage,
    Close,
    CloseOnIdentify,
    CloseOnResume,
    CutAfter,
    DelayHello,
    DelayReady,
    DelayResumed,
    Drop,
    DropDuringReplay,
    Fragment,
    HelloInterval,
    InvalidateSession,
    NoHello,
    NoReady,
    Publish,
    Reconnect,
    ReconnectInsteadOfHello,
    RefuseIdentify,
    RefuseResume,
    RejectUpgrade,
    RequestHeartbeat,
    Reset,
    Scenario,
    SendBytes,
    SendPayload,
    SendRaw,
    SendText,
    Silence,
    Sleep,
    SlowReplay,
    Stall,
    StopAcks,
    TruncatedCompression,
)

__all__ = [
    "Action",
    "Conduct",
    "Moment",
    "Powers",
    "Setting",
    "After",
    "Arrival",
    "BigMessage",
    "Churn",
    "Close",
    "CloseOnIdentify",
    "CloseOnResume",
    "CutAfter",
    "DelayHello",
    "DelayReady",
    "DelayResumed",
    "Drop",
    "DropDuringReplay",
    "Fragment",
    "GatewayConnection",
    "Guild",
    "HelloInterval",
    "IdentifyAttempt",
    "InteractionCallback",
    "InvalidateSession",
    "LocalGateway",
    "MemoryStream",
    "NoHello",
    "NoReady",
    "Phase",
    "Publish",
    "Reconnect",
    "ReconnectInsteadOfHello",
    "RefuseIdentify",
    "RefuseResume",
    "RejectUpgrade",
    "Report",
    "ReportSnapshot",
    "RequestHeartbeat",
    "Reset",
    "Scenario",
    "SendBytes",
    "SendPayload",
    "SendRaw",
    "SendText",
    "SessionStatistics",
    "Silence",
    "Sleep",
    "SlowReplay",
    "Stall",
    "StopAcks",
    "TruncatedCompression",
    "Violation",
    "memory_stream_pair",
    "open_local_gateway",
]
