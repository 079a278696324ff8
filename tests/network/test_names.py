"""Names and addresses: both families, names that do not resolve, and name servers that do not answer."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

import trioshard
from trioshard import Backoff, Intents
from trioshard._open_transport import CONNECT_TIMEOUT, open_transport
from trioshard.errors import ConnectFailed, GatewayUnreachable
from trioshard.testing import open_local_gateway

if TYPE_CHECKING:
    from trio.testing import MockClock

NO_WAIT = Backoff(base=0.001, cap=0.001)


class Names(trio.abc.HostnameResolver):
    """A name server that gives one answer after the other, and the last one for ever.

    An answer is a list of addresses, an error, or ``None`` for none at all.
    """

    def __init__(self) -> None:
        self.answers: list[list[str] | OSError | None] = []
        self.asked: list[bytes] = []

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if isinstance(answer, OSError):
            raise answer
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in answer
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@pytest.fixture
async def names() -> Names:
    names = Names()
    trio.socket.set_custom_hostname_resolver(names)  # for this run, and so for this test
    return names


def not_now() -> OSError:
    return socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


# --- happy eyeballs ---


@pytest.mark.parametrize("dead", ["nobody listens", "black hole"])
async def test_the_other_family_answers(dead: str, names: Names) -> None:
    names.answers = [["::1", "127.0.0.1"]]
    with trio.fail_after(20), ExitStack() as stack:
        async with open_local_gateway(host="127.0.0.1") as gateway:
            assert gateway.port is not None
            if dead == "black hole":
                _swallow(stack, gateway.port)
            async with trioshard.open_shard(
                "secret", intents=Intents.NONE, url=f"ws://gateway.test:{gateway.port}", backoff=NO_WAIT
            ) as shard:
                await shard.wait_ready()
                assert shard.statistics().failures == 0, "the first attempt found the way"
    assert names.asked == [b"gateway.test"]


def _swallow(stack: ExitStack, port: int) -> None:
    """Let connections to ::1 neither succeed nor fail: somebody listens whose backlog is full."""
    try:
        listener = stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6, backlog=0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    for _ in range(8):
        waiting = stack.enter_context(socket.socket(socket.AF_INET6))
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())


# --- names that do not resolve ---


async def test_a_name_that_does_not_resolve_at_first_is_asked_for_again(names: Names) -> None:
    names.answers = [not_now(), not_now(), ["127.0.0.1"]]
    with trio.fail_after(20):
        async with open_local_gateway(host="127.0.0.1") as gateway:
            async with trioshard.open_shard(
                "secret", intents=Intents.NONE, api_url=f"http://api.test:{gateway.port}/api", backoff=NO_WAIT
            ) as shard:
                await shard.wait_ready()
        assert gateway.report.identifies == 1
    assert names.asked == [b"api.test"] * 3


async def test_a_session_outlives_a_name_server_that_is_away(names: Names) -> None:
    names.answers = [["127.0.0.1"]]
    with trio.fail_after(20):
        async with open_local_gateway(host="localhost") as gateway:
            async with trioshard.open_shard("secret", intents=Intents.NONE, url=gateway.url, backoff=NO_WAIT) as shard:
                await shard.wait_ready()
                names.answers = [not_now()] * 20 + [["127.0.0.1"]]
                gateway.connections[0].reset()
                await gateway.wait_resumed()
        assert (gateway.report.identifies, gateway.report.resumes) == (1, 1)


@pytest.mark.parametrize("where", ["url", "api_url"])
async def test_a_name_that_never_resolves_is_given_up_with_advice(where: str, names: Names) -> None:
    names.answers = [socket.gaierror(socket.EAI_NONAME, "Name or service not known")]
    address: dict[str, Any] = {where: f"{'wss' if where == 'url' else 'https'}://gateway.test"}
    with trio.fail_after(20), pytest.raises(GatewayUnreachable) as caught:
        async with trioshard.open_shard("secret", intents=Intents.NONE, backoff=NO_WAIT, **address):
            await trio.sleep_forever()
    assert str(caught.value).startswith("no connection to the gateway after 8 attempts: ")
    assert "its name does not resolve (Name or service not known). Check how it is spelled" in str(caught.value)


async def test_a_name_server_that_does_not_answer_is_not_waited_for_for_ever(
    names: Names, autojump_clock: MockClock
) -> None:
    names.answers = [None]
    with pytest.raises(ConnectFailed, match="did not answer within 30 s") as caught:
        async with open_transport("ws://gateway.test", max_message_size=1000):
            pytest.fail("it was opened")
    assert not caught.value.permanent
    assert trio.current_time() == pytest.approx(CONNECT_TIMEOUT)
