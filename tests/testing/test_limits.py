"""Rates, windows and budgets."""

import pytest
import trio

from trioshard.testing import After, Scenario, Stall, open_local_gateway

from .raw_client import TOKEN, Gone, connect

PRESENCE = {"since": None, "activities": [], "status": "online", "afk": False}
SOUNDS = {"guild_ids": []}


async def test_120_payloads_in_60_seconds_are_fine(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        for _ in range(118):
            await client.send(31, SOUNDS)
        await client.sync()
        await trio.sleep(60)
        for _ in range(119):
            await client.send(31, SOUNDS)
        await client.sync()
        assert not gateway.report.violations


async def test_the_121st_payload_is_too_much(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await trio.sleep(30)
        for _ in range(120):
            await client.send(31, SOUNDS)
        assert await client.gone() == 4008
        assert gateway.report.violations == {"rate_limited": 1}
        # The Identify was the first of the 120.
        assert gateway.report.commands_by_op == {31: 119}


async def test_the_window_slides(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.sync()
        for _ in range(2):
            await trio.sleep(29)
            for _ in range(58):
                await client.send(31, SOUNDS)
            await client.sync()
        # The first two of 120 are more than a minute old by now.
        await trio.sleep(3)
        await client.send(31, SOUNDS)
        await client.sync()
        await client.send(31, SOUNDS)
        assert await client.gone() == 4008


async def test_a_backlog_of_the_gateways_own_making_is_forgiven(autojump_clock):
    scenario = Scenario([[After("ready"), Stall(35)]])
    async with open_local_gateway(port=None, scenario=scenario) as gateway, connect(gateway) as client:
        await client.start()
        for _ in range(100):
            await client.send(31, SOUNDS)
        await trio.sleep(65)
        for _ in range(110):
            await client.send(31, SOUNDS)
        await client.sync()
        assert not gateway.report.violations


async def test_late_heartbeats(autojump_clock):
    async with open_local_gateway(port=None, heartbeat_interval=10, heartbeat_grace=2) as gateway:
        async with connect(gateway) as client:
            await client.start()
            for _ in range(3):
                await trio.sleep(11.9)
                await client.sync()
            start = trio.current_time()
            assert await client.gone() == 4000
            assert trio.current_time() - start == pytest.approx(12.0)
            assert gateway.report.violations == {"heartbeat_late": 1}
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            await back.expect(0, "RESUMED")


async def test_a_heartbeat_ahead_of_the_gateway(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle()
        await client.send(1, 2)
        await client.send(1, 3)
        await client.sync()
        assert gateway.report.violations == {"heartbeat_ahead": 1}


async def test_identify_window(autojump_clock):
    async with open_local_gateway(port=None, max_concurrency=2) as gateway:
        async with connect(gateway) as zero, connect(gateway) as one, connect(gateway) as two:
            await zero.start(shard=[0, 4])
            await one.start(shard=[1, 4])
            await two.hello()
            await two.identify(shard=[2, 4])
            assert (await two.expect(9))["d"] is False
            assert gateway.report.violations == {"identify_rate": 1}
            await trio.sleep(5)
            await two.identify(shard=[2, 4])
            await two.expect(0, "READY")
        attempts = [(a.time, a.shard[0], a.rate_limit_key, a.accepted) for a in gateway.report.identify_attempts]
        assert attempts == [(0, 0, 0, True), (0, 1, 1, True), (0, 2, 0, False), (5, 2, 0, True)]
        assert gateway.report.violations == {"identify_rate": 1}


async def test_session_starts_run_out_and_the_token_is_void(autojump_clock):
    async with open_local_gateway(port=None, session_starts=2, identify_window=0) as gateway:
        async with connect(gateway) as first, connect(gateway) as second, connect(gateway) as third:
            await first.start()
            await second.start()
            await third.hello()
            await third.identify()
            for client in (first, second, third):
                assert await client.gone() == 4004
        assert gateway.report.violations == {"session_starts_exhausted": 1}
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(first.session_id, 1)
            assert await client.gone() == 4004
        async with connect(gateway) as client:
            # Another bot is not concerned.
            await client.start(token="another")


async def test_session_starts_come_back_after_a_day(autojump_clock):
    async with open_local_gateway(port=None, session_starts=1) as gateway:
        async with connect(gateway) as client:
            await client.start()
        await trio.sleep(86_400)
        async with connect(gateway) as client:
            await client.start()


async def test_too_many_guilds_for_a_shard(autojump_clock):
    async with open_local_gateway(port=None, guilds=2501) as gateway, connect(gateway) as client:
        await client.hello()
        await client.identify()
        assert await client.gone() == 4011


async def test_presence_limit_belongs_to_the_bot(autojump_clock):
    async with (
        open_local_gateway(port=None, max_concurrency=2) as gateway,
        connect(gateway) as zero,
        connect(gateway) as one,
    ):
        await zero.start(shard=[0, 2])
        await one.start(shard=[1, 2])
        for client in (zero, one, zero, one, zero):
            await client.send(3, PRESENCE)
            await client.sync()
        assert not gateway.report.violations
        await one.send(3, PRESENCE)
        await one.sync()
        assert gateway.report.violations == {"presence_rate": 1}
        await trio.sleep(20)
        await one.send(3, PRESENCE)
        await one.sync()
        assert gateway.report.violations == {"presence_rate": 1}


async def test_a_client_that_does_not_read_loses_its_connection(autojump_clock):
    async with open_local_gateway(port=None, replay_limit=1000, heartbeat_interval=1000) as gateway:
        async with connect(gateway) as client:
            await client.start()
            for _ in range(5):
                for _ in range(900):
                    gateway.send_message("much")
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(6)
            with pytest.raises(Gone):
                while True:
                    await client.receive()
            assert gateway.report.closes_sent == {4000: 1}
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, client.sequence)
            assert (await back.expect(9))["d"] is False


async def test_lists_of_the_report_are_bounded(autojump_clock):
    async with open_local_gateway(port=None, report_limit=3) as gateway, connect(gateway) as client:
        await client.start()
        for number in range(5):
            await client.send(31, {"guild_ids": [str(number)]})
        await client.sync()
        assert [a.data["guild_ids"] for a in gateway.report.commands] == [["2"], ["3"], ["4"]]
        assert gateway.report.commands_by_op == {31: 5}
        assert gateway.report.snapshot().commands == {31: 5}


async def test_the_right_token(autojump_clock):
    async with open_local_gateway(port=None, token=TOKEN) as gateway, connect(gateway) as client:
        await client.start()
        assert not gateway.report.violations


async def test_publishing_much_with_care(autojump_clock):
    async with open_local_gateway(port=None, replay_limit=500) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle()
        received = []

        async def read():
            while len(received) < 2000:
                received.append((await client.receive())["d"]["content"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(2000):
                gateway.send_message(f"{number}")
                if number % 400 == 0:
                    await gateway.wait_flushed()
        assert received == [f"{number}" for number in range(2000)]
        await gateway.wait_flushed()
    await gateway.wait_flushed()
