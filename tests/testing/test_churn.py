"""Heavy weather, seen by a client that does nothing but come back."""

import pytest
import trio

from trioshard.testing import Churn, NoHello, Scenario, open_local_gateway

from .raw_client import Gone, connect


class Survivor:
    """Reconnects at once, resumes whenever it can, and keeps every message that it gets."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.session = None
        self.sequence = None
        self.contents = []
        self.lost = 0

    async def run(self):
        while True:
            try:
                async with connect(self.gateway, target="/resume?v=10" if self.session else "/?v=10") as client:
                    await self.live(client)
            except (Gone, trio.BrokenResourceError):
                pass

    async def live(self, client):
        await client.hello()
        if self.session:
            await client.resume(self.session, self.sequence)
        else:
            await client.identify()
        while True:
            payload = await client.receive()
            self.sequence = client.sequence or self.sequence
            if payload["t"] == "READY":
                self.session = client.session_id
            elif payload["t"] == "MESSAGE_CREATE":
                self.contents.append(payload["d"]["content"])
            elif payload["op"] == 7:
                await client.close(4900)
            elif payload["op"] == 9:
                if not payload["d"]:
                    self.session = self.sequence = None
                    self.lost += 1
                    await trio.sleep(5)
                await client.close(4900)


@pytest.mark.parametrize("seed", range(10))
async def test_nothing_is_lost_in_a_churn(seed, autojump_clock):
    async with open_local_gateway(port=None, scenario=Churn(seed, op9_false_every=1e9)) as gateway:
        client = Survivor(gateway)
        with trio.move_on_after(60):
            await client.run()
        report = gateway.report
        assert not report.violations
        assert client.contents == [f"churn {n}" for n in range(1, len(client.contents) + 1)] or _in_order(client)
        assert report.resumes > 120
        assert report.replays + report.dispatches_sent > 200
        assert (report.readies, client.lost) == (1, 0)


def _in_order(client):
    # Scripts are drawn before they are played, so that numbers may be missing, but never twice or backwards.
    numbers = [int(content.split()[1]) for content in client.contents]
    return numbers == sorted(set(numbers))


async def test_sessions_are_lost_now_and_then(autojump_clock):
    async with open_local_gateway(port=None, scenario=Scenario([[NoHello()]], then=Churn())) as gateway:
        async with connect(gateway):
            pass
        client = Survivor(gateway)
        with trio.move_on_after(120):
            await client.run()
        assert 4 <= client.lost <= 10
        assert gateway.report.identifies == client.lost + 1
        assert not gateway.report.violations


async def test_the_same_seed_draws_the_same_scripts(autojump_clock):
    one, two, other = Churn(1), Churn(1), Churn(2)
    scripts = [one.script_for(number) for number in range(50)]
    assert scripts == [two.script_for(number) for number in range(50)]
    assert scripts != [other.script_for(number) for number in range(50)]


async def test_weights(autojump_clock):
    churn = Churn(weights={"drop": 1})
    assert {type(churn.script_for(number)[-1]).__name__ for number in range(50)} == {"Drop"}
    with pytest.raises(ValueError, match="unknown weights"):
        Churn(weights={"dorp": 1})
