"""The three ways of compression, and none."""

import sys

import pytest

from trioshard.testing import open_local_gateway

from .raw_client import Rejected, connect


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_every_message_of_the_transport(compress, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway, compress=compress) as client:
        # Payload compression is not in force when the transport compresses.
        await client.start(compress=compress is not None)
        await client.settle()
        for number in range(100):
            gateway.send_message(f"message {number}")
            assert (await client.receive())["d"]["content"] == f"message {number}"
        kinds = {kind for kind, _ in client.messages}
        assert kinds == {str if compress is None else bytes}
        if compress is not None:
            # One context for the whole connection: what is alike gets small.
            assert client.messages[-1][1] < 250


async def test_payload_compression(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start(compress=True)
        await client.settle()
        gateway.publish("SMALL", 1)
        gateway.send_message("large " * 100)
        await client.expect(0, "SMALL")
        assert (await client.expect(0, "MESSAGE_CREATE"))["d"]["content"].startswith("large")
        await client.sync()
        # Hello, READY, GUILD_CREATE, SMALL, MESSAGE_CREATE, and the heartbeat's ACK.
        kinds = [kind for kind, _ in client.messages]
        assert kinds == [str, str, bytes, str, bytes, str]


async def test_without_zstd_the_upgrade_is_refused(autojump_clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "trioshard.testing._zstd", None)
    async with open_local_gateway(port=None) as gateway:
        with pytest.raises(Rejected) as caught:
            async with connect(gateway, compress="zstd-stream"):
                pass
        assert caught.value.status == 501
        assert b"zstd-stream" in caught.value.body
