"""The good path: Hello, Identify, READY, events, heartbeats, Resume."""

import pytest

from trioshard.testing import Guild, Phase, open_local_gateway

from .raw_client import TOKEN, connect


async def test_ready_says_what_discord_says(autojump_clock):
    async with open_local_gateway(port=None, guilds=3) as gateway, connect(gateway) as client:
        hello = await client.hello()
        assert hello["d"] == {"heartbeat_interval": 41250}
        await client.identify(shard=[1, 2])
        ready = (await client.expect(0, "READY"))["d"]
        assert ready["v"] == 10
        assert ready["shard"] == [1, 2]
        assert ready["resume_gateway_url"] == gateway.resume_url != gateway.url
        assert ready["guilds"] == [{"id": str(gateway.guilds[1].id), "unavailable": True}]
        assert ready["application"]["id"] == ready["user"]["id"]
        created = await client.expect(0, "GUILD_CREATE")
        assert created["d"]["id"] == ready["guilds"][0]["id"]
        assert created["s"] == 2
        assert not gateway.report.violations


async def test_without_a_shard_in_identify_there_is_none_in_ready(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        assert "shard" not in (await client.start())["d"]


async def test_version_9_is_taken_too(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway, target="/?v=9") as client:
        assert (await client.start())["d"]["v"] == 9


async def test_guilds_are_spread_over_shards_by_the_formula(autojump_clock):
    async with open_local_gateway(port=None, guilds=16, max_concurrency=4) as gateway:
        for shard in range(4):
            async with connect(gateway) as client:
                ready = await client.start(shard=[shard, 4])
                ids = [int(guild["id"]) for guild in ready["d"]["guilds"]]
                assert len(ids) == 4
                assert all((guild_id >> 22) % 4 == shard for guild_id in ids)


async def test_publish_reaches_the_shard_of_the_guild_and_only_that(autojump_clock):
    async with (
        open_local_gateway(port=None, guilds=2, max_concurrency=2) as gateway,
        connect(gateway) as zero,
        connect(gateway) as one,
    ):
        await zero.start(shard=[0, 2])
        await one.start(shard=[1, 2])
        await zero.settle()
        await one.settle()
        assert gateway.publish("GUILD_UPDATE", {"n": 1}, guild_id=gateway.guilds[1].id) == 1
        assert gateway.publish("USER_UPDATE", b'{"n":2}') == 1
        assert (await one.receive())["d"] == {"n": 1}
        assert (await zero.receive())["d"] == {"n": 2}
        assert await one.nothing_comes(10)


async def test_intents_are_obeyed_when_asked_for(autojump_clock):
    async with open_local_gateway(port=None, filter_intents=True) as gateway, connect(gateway) as client:
        await client.start(intents=1 | 4096)
        await client.settle()
        assert gateway.publish("MESSAGE_CREATE", {}, guild_id=gateway.guilds[0].id) == 0
        assert gateway.publish("MESSAGE_CREATE", {}) == 1
        assert gateway.publish("SOMETHING_NEW", {}) == 1


async def test_a_message_has_everything_that_belongs_to_one(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle()
        message_id = gateway.send_message("hello")
        message = await client.receive()
        assert message["t"] == "MESSAGE_CREATE"
        assert message["d"]["id"] == str(message_id)
        assert message["d"]["content"] == "hello"
        assert message["d"]["guild_id"] == str(gateway.guilds[0].id)
        assert message["d"]["author"]["username"]


async def test_every_heartbeat_is_acknowledged_from_hello_on(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.hello()
        await client.send(1, None)
        assert (await client.receive())["op"] == 11
        await client.identify()
        await client.expect(0, "READY")
        await client.settle()
        await client.sync()
        assert gateway.report.heartbeats == gateway.report.acks == 2
        assert not gateway.report.violations


async def test_resume_replays_in_order_with_the_first_sequence_numbers(autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            gateway.publish("A", 1)
            assert (await client.receive())["s"] == 3
            await client.close(4900)
            assert await client.gone() == 4900
        for event in "BCD":
            gateway.publish(event, 1)
        async with connect(gateway, target="/resume?v=10") as back:
            await back.hello()
            await back.resume(client.session_id, 2)
            assert [(p["t"], p["s"]) for p in [await back.receive() for _ in range(5)]] == [
                ("A", 3),
                ("B", 4),
                ("C", 5),
                ("D", 6),
                ("RESUMED", 7),
            ]
            gateway.publish("E", 1)
            assert (await back.receive())["s"] == 8
            assert gateway.connections[0].phase is Phase.READY
        report = gateway.report
        assert (report.resumes, report.replays, report.resumes_on_wrong_url) == (1, 1, 0)
        assert report.sessions[client.session_id].resumes == 1
        assert not report.violations


async def test_an_earlier_resumed_is_not_replayed(autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.close(4900)
        for event in ("A", "B", "C"):
            async with connect(gateway) as back:
                await back.hello()
                await back.resume(client.session_id, 2)
                names = []
                while not names or names[-1] != "RESUMED":
                    names.append((await back.receive())["t"])
                gateway.publish(event, 1)
                assert (await back.receive())["t"] == event
                assert names == [*["A", "B", "C"][: len(names) - 1], "RESUMED"]
                await back.close(4900)
        assert gateway.report.resumes_on_wrong_url == 3


async def test_the_newest_connection_has_the_session(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as old, connect(gateway) as new:
        await old.start()
        await old.settle()
        await new.hello()
        await new.resume(old.session_id, old.sequence)
        await new.expect(0, "RESUMED")
        assert await old.gone() == 4000
        gateway.publish("A", 1)
        assert (await new.receive())["t"] == "A"


@pytest.mark.parametrize(("code", "lives"), [(1000, False), (1001, False), (4900, True), (3000, True), (1011, True)])
async def test_how_a_client_leaves_decides_over_its_session(code, lives, autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.close(code)
            await client.gone()
        assert gateway.report.closes_received == {code: 1}
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            if lives:
                await back.expect(0, "RESUMED")
            else:
                assert (await back.receive())["d"] is False


@pytest.mark.parametrize("how", ["eof", "close_1000_after_op9"])
async def test_session_after_other_ways_of_leaving(how, autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        async with connect(gateway) as client:
            await client.start()
            if how == "close_1000_after_op9":
                gateway.connections[0].invalidate(resumable=True)
                assert (await client.expect(9))["d"] is True
                await client.close(1000)
                await client.gone()
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            payload = await back.receive()
            assert (payload["op"] == 9) == (how == "close_1000_after_op9")


async def test_a_ping_is_answered(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.ping()
        await client.sync()
        assert client.pongs == 1


async def test_tokens_are_shown_nowhere(autojump_clock):
    async with open_local_gateway(port=None, token=TOKEN) as gateway, connect(gateway) as client:
        await client.start()
        shown = repr([gateway, gateway.report, gateway.connections, gateway.report.snapshot(), vars(gateway)])
        assert TOKEN not in shown
        assert TOKEN not in repr(gateway._core.settings)


async def test_guilds_can_be_given(autojump_clock):
    guild = Guild(id=41 << 22, name="Mine", member_count=5)
    async with open_local_gateway(port=None, guilds=[guild]) as gateway, connect(gateway) as client:
        await client.start()
        created = (await client.expect(0, "GUILD_CREATE"))["d"]
        assert (created["id"], created["name"], created["member_count"]) == (str(guild.id), "Mine", 6)
        assert len(created["members"]) == 1


async def test_waits(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await gateway.wait_connected()
        await client.start()
        await gateway.wait_ready(1)
        await client.send(4, {"guild_id": "1", "channel_id": None, "self_mute": False, "self_deaf": False})
        await gateway.wait_command(1)
        assert [a.op for a in gateway.report.commands] == [4]
