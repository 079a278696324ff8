"""What the gateway answers to user commands."""

import pytest
import trio

from trioshard.testing import Guild, open_local_gateway

from .raw_client import connect

GUILD = Guild(id=1000 << 22, member_count=2_500)
ALL = 53_608_447
MEMBERS = 1 << 1


async def test_a_full_member_list_comes_in_chunks(autojump_clock):
    async with open_local_gateway(port=None, guilds=[GUILD]) as gateway, connect(gateway) as client:
        await client.start(intents=MEMBERS)
        await client.settle()
        await client.send(8, {"guild_id": str(GUILD.id), "query": "", "limit": 0, "nonce": "n" * 32})
        chunks = [(await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"] for _ in range(3)]
        assert [(c["chunk_index"], c["chunk_count"], len(c["members"])) for c in chunks] == [
            (0, 3, 1000), (1, 3, 1000), (2, 3, 501),
        ]  # fmt: skip
        assert {c["nonce"] for c in chunks} == {"n" * 32}
        assert len({m["user"]["id"] for c in chunks for m in c["members"]}) == 2_501
        assert "presences" not in chunks[0]


async def test_a_full_list_is_limited_for_each_guild(autojump_clock):
    guilds = [GUILD, Guild(id=1001 << 22)]
    async with open_local_gateway(port=None, guilds=guilds) as gateway, connect(gateway) as client:
        await client.start(intents=MEMBERS)
        await client.settle(2)
        ask = {"guild_id": str(GUILD.id), "query": "", "limit": 0}
        await client.send(8, ask)
        await trio.sleep(10)
        await client.send(8, {**ask, "nonce": "second"})
        limited = (await client.expect(0, "RATE_LIMITED"))["d"]
        assert limited["opcode"] == 8
        assert limited["retry_after"] == pytest.approx(20.0)
        assert limited["meta"] == {"guild_id": str(GUILD.id), "nonce": "second"}
        await client.send(8, {**ask, "guild_id": str(guilds[1].id)})
        await client.send(8, {**ask, "query": "member", "limit": 5})
        assert (await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]["guild_id"] == str(guilds[1].id)
        assert len((await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]["members"]) == 5
        await trio.sleep(20)
        await client.send(8, ask)
        assert (await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]["chunk_count"] == 3
        assert gateway.report.member_lists_limited == 1
        assert not gateway.report.violations


async def test_members_by_prefix_and_by_id(autojump_clock):
    async with open_local_gateway(port=None, guilds=[GUILD]) as gateway, connect(gateway) as client:
        await client.start(intents=ALL)
        await client.settle()
        guild_id = str(GUILD.id)
        await client.send(8, {"guild_id": guild_id, "query": "member0001", "limit": 3, "presences": True})
        chunk = (await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]
        assert [m["user"]["username"] for m in chunk["members"]] == ["member00010", "member00011", "member00012"]
        assert len(chunk["presences"]) == 3
        known = chunk["members"][0]["user"]["id"]
        await client.send(8, {"guild_id": guild_id, "user_ids": [known, "5", "999999999999999999"], "nonce": "x" * 33})
        chunk = (await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]
        assert [m["user"]["id"] for m in chunk["members"]] == [known]
        assert chunk["not_found"] == [5, "999999999999999999"]
        assert "nonce" not in chunk
        await client.send(8, {"guild_id": guild_id, "query": "nobody", "limit": 0})
        assert (await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]["members"] == []
        await client.send(8, {"guild_id": guild_id, "query": "m", "limit": 500})
        assert len((await client.expect(0, "GUILD_MEMBERS_CHUNK"))["d"]["members"]) == 100


@pytest.mark.parametrize("why", ["no intent", "foreign guild", "other shard"])
async def test_silence_is_an_answer_too(why, autojump_clock):
    async with open_local_gateway(port=None, guilds=[GUILD]) as gateway, connect(gateway) as client:
        other = why == "other shard"
        await client.start(intents=1 if why == "no intent" else MEMBERS, shard=[1 if other else 0, 2])
        await client.settle(0 if other else 1)
        guild_id = "77" if why == "foreign guild" else str(GUILD.id)
        await client.send(8, {"guild_id": guild_id, "query": "", "limit": 0})
        assert await client.nothing_comes(20)
        assert not gateway.report.violations


async def test_voice(autojump_clock):
    async with open_local_gateway(port=None, guilds=[GUILD]) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle()
        ask = {"guild_id": str(GUILD.id), "channel_id": str(GUILD.voice_channel_id)}
        await client.send(4, {**ask, "self_mute": True, "self_deaf": False})
        state = await client.receive()
        assert state["t"] == "VOICE_STATE_UPDATE"
        assert (state["d"]["channel_id"], state["d"]["self_mute"]) == (ask["channel_id"], True)
        assert (await client.receive())["t"] == "VOICE_SERVER_UPDATE"
        await client.send(4, {**ask, "channel_id": None, "self_mute": False, "self_deaf": False})
        assert (await client.receive())["d"]["channel_id"] is None
        assert await client.nothing_comes(20)


async def test_sounds_and_channel_info(autojump_clock):
    async with open_local_gateway(port=None, guilds=2) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle(2)
        ids = [str(guild.id) for guild in gateway.guilds]
        await client.send(31, {"guild_ids": [*ids, "5"]})
        assert [(await client.expect(0, "SOUNDBOARD_SOUNDS"))["d"]["guild_id"] for _ in ids] == ids
        await client.send(43, {"guild_id": ids[0], "fields": ["status", "voice_start_time"]})
        [channel] = (await client.expect(0, "CHANNEL_INFO"))["d"]["channels"]
        assert set(channel) == {"id", "status", "voice_start_time"}


async def test_members_are_listed_to_those_with_the_presence_intent(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start(intents=ALL)
        created = (await client.expect(0, "GUILD_CREATE"))["d"]
        assert len(created["members"]) == created["member_count"] == 4
