"""The process between bot and gateway: it listens, refuses, obeys, is killed, and comes again."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
import trio

from trioshard._soak import child, proxy
from trioshard._soak.child import ProxyFailed, open_proxy


@asynccontextmanager
async def echo():
    """The port of somebody who sends back what comes."""

    async def serve(stream):
        try:
            async for chunk in stream:
                await stream.send_all(chunk)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        with trio.fail_after(10):
            listeners = await nursery.start(trio.serve_tcp, serve, 0)
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


async def answers(dial) -> bool:
    """Whether bytes come back."""
    try:
        stream = await dial("anywhere", 0)
    except ConnectionRefusedError:
        return False
    async with stream:
        try:
            await stream.send_all(b"x")
            return await stream.receive_some() == b"x"
        except trio.BrokenResourceError:
            return False


async def wait_until(condition) -> None:
    while not condition():
        await trio.sleep(0.01)


async def test_a_quiet_proxy_forwards():
    async with echo() as port, open_proxy(port, Random(1)) as running:
        assert await answers(running.dial)
        assert not running.done


async def test_one_that_was_killed_comes_again_at_the_same_port(monkeypatch):
    monkeypatch.setattr(child, "LIVES_FOR", (0.4, 0.4))
    monkeypatch.setattr(child, "DEAD_FOR", (0.1, 0.1))
    async with echo() as port, open_proxy(port, Random(1)) as running:
        await running.storm()
        await wait_until(lambda: running.done["kill"])
        assert not await answers(running.dial)
        await running.calm()
        assert await answers(running.dial)


async def test_calm_ends_every_connection_and_all_trouble():
    async with echo() as port, open_proxy(port, Random(1)) as running:
        stream = await running.dial("anywhere", 0)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        await running.storm()
        await running.calm()
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        await stream.aclose()
        assert await answers(running.dial)


async def test_one_that_ends_by_itself_is_told():
    told = []
    try:
        async with echo() as port, open_proxy(port, Random(1)) as running:
            running._process.terminate()
            await trio.sleep_forever()
    except* ProxyFailed as group:
        told = group.exceptions
    assert len(told) == 1


async def test_a_proxy_refuses_connections_now_and_then_while_there_is_a_storm(monkeypatch, unused_port):
    monkeypatch.setattr(proxy, "LISTENS_FOR", (0.05, 0.05))
    monkeypatch.setattr(proxy, "REFUSES_FOR", (0.1, 0.1))
    said = []
    async with echo() as port, trio.open_nursery() as nursery:
        stormy = proxy.Proxy(unused_port, port, Random(1), said.append)

        async def dial(host, port):
            return await trio.open_tcp_stream("127.0.0.1", unused_port)

        nursery.start_soon(stormy.run)
        await wait_until(lambda: said)
        await trio.sleep(0.1)
        assert said == ["listening"]
        stormy.storm()
        await wait_until(lambda: "refusal" in said)
        with pytest.raises(OSError, match="all attempts to connect"):
            await dial("", 0)
        await wait_until(lambda: said.count("listening") == 2)
        stormy.calm()
        await trio.sleep(0.1)
        assert said.count("refusal") <= 2
        await wait_until(lambda: said[-1] == "listening" or said[-1] == "calmed")
        assert await answers(dial)
        nursery.cancel_scope.cancel()


async def test_in_a_storm_connections_meet_trouble_until_it_is_calm(unused_port):
    said = []
    async with echo() as port, trio.open_nursery() as nursery:
        stormy = proxy.Proxy(unused_port, port, Random(2), said.append)
        await nursery.start(stormy.run)

        async def dial(host, port):
            return await trio.open_tcp_stream("127.0.0.1", unused_port)

        async def stay():
            async with await dial("", 0) as stream:
                with suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(b"x")
                        await stream.receive_some()
                        await trio.sleep(0.02)

        stormy.storm()
        async with trio.open_nursery() as clients:
            for _ in range(20):
                clients.start_soon(stay)
            await wait_until(lambda: len(set(said) - {"listening"}) >= 2)
            stormy.calm()
            clients.cancel_scope.cancel()
        assert "calmed" in said
        assert await answers(dial)
        nursery.cancel_scope.cancel()


async def test_a_connection_that_leads_nowhere_is_reset(unused_port):
    async with open_proxy(unused_port, Random(1)) as running:
        # On a busy machine the reset is there before the connect has returned.
        with pytest.raises((trio.BrokenResourceError, ConnectionResetError)):
            async with await running.dial("anywhere", 0) as stream:
                await stream.receive_some()


def test_the_process_ends_with_its_stdin(unused_port):
    command = [sys.executable, "-m", "trioshard._soak.proxy", str(unused_port), "1", "seed"]
    done = subprocess.run(command, input=b"storm\ncalm\n", capture_output=True, timeout=10, check=True)
    assert set(done.stdout.split()) == {b"listening", b"calmed"}
