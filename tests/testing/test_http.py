"""The routes, and HTTP itself."""

import json

import h11
import pytest
import trio

from trioshard.testing import open_local_gateway

from .raw_client import TOKEN, connect

AUTH = {"Authorization": f"Bot {TOKEN}"}


class Http:
    """One keep-alive connection."""

    def __init__(self, stream):
        self.stream = stream
        self.h11 = h11.Connection(h11.CLIENT)

    async def __call__(self, method, path, body=None, headers=AUTH):
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [("Host", "x"), ("Content-Length", str(len(data))), *headers.items()]
        if self.h11.our_state is h11.DONE:
            self.h11.start_next_cycle()
        await self.stream.send_all(self.h11.send(h11.Request(method=method, target=path, headers=head)))
        await self.stream.send_all(self.h11.send(h11.Data(data=data)) + self.h11.send(h11.EndOfMessage()))
        status, answer = None, b""
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                self.h11.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, json.loads(answer) if answer else None


@pytest.fixture
async def gateway(autojump_clock):
    async with open_local_gateway(port=None, token=TOKEN, shards=4, max_concurrency=2, session_starts=10) as opened:
        yield opened


@pytest.fixture
async def http(gateway):
    return Http(await gateway.dial())


@pytest.mark.parametrize("prefix", ["", "/api", "/api/v9", "/api/v10"])
async def test_prefixes(http, prefix, autojump_clock):
    assert await http("GET", f"{prefix}/gateway", headers={}) == (200, {"url": "ws://gateway.memory"})


async def test_gateway_bot(gateway, http, autojump_clock):
    async with connect(gateway) as client:
        await client.start()
    await trio.sleep(100)
    status, answer = await http("GET", "/api/v10/gateway/bot")
    assert status == 200
    assert answer == {
        "url": gateway.url,
        "shards": 4,
        "session_start_limit": {"total": 10, "remaining": 9, "reset_after": 86_300_000, "max_concurrency": 2},
    }


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bot wrong"}, {"Authorization": f"Bearer {TOKEN}"}])
async def test_authorization(http, headers, autojump_clock):
    for method, path in [("GET", "/gateway/bot"), ("GET", "/users/@me"), ("POST", "/channels/1/messages")]:
        assert await http(method, path, headers=headers) == (401, {"message": "401: Unauthorized", "code": 0})


async def test_what_there_is_not(http, autojump_clock):
    for path in ("/nothing", "/api/v10/channels/1", "/gateway/"):
        assert await http("GET", path) == (404, {"message": "404: Not Found", "code": 0})


async def test_who_am_i(http, autojump_clock):
    _, me = await http("GET", "/users/@me")
    assert me["bot"] is True
    for path in ("/applications/@me", "/oauth2/applications/@me"):
        status, application = await http("GET", path)
        assert (status, application["bot"]["id"]) == (200, me["id"])


async def test_a_posted_message_comes_back_over_the_gateway(gateway, http, autojump_clock):
    async with connect(gateway) as client:
        await client.start()
        await client.settle()
        channel = gateway.guilds[0].text_channel_id
        body = {"content": "hello", "nonce": "n1", "embeds": [{"title": "x"}]}
        status, message = await http("POST", f"/channels/{channel}/messages", body)
        event = (await client.expect(0, "MESSAGE_CREATE"))["d"]
        assert status == 200
        assert message["id"] == event["id"]
        assert (event["content"], event["nonce"], event["embeds"]) == ("hello", "n1", [{"title": "x"}])
        assert event["author"]["bot"] is True
        assert event["guild_id"] == str(gateway.guilds[0].id)
        assert "guild_id" not in message


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, 50006), ({"content": ""}, 50006), ({"content": "x" * 2001}, 50035), ({"content": 5}, 50035), (b"{", 50035)],
)
async def test_messages_that_are_none(http, body, code, autojump_clock):
    status, answer = await http("POST", "/channels/1/messages", body)
    assert (status, answer["code"]) == (400, code)


async def test_a_message_in_a_form(http, autojump_clock):
    body = b'--b\r\nContent-Disposition: form-data; name="payload_json"\r\n\r\n{"content":"hi"}\r\n--b--\r\n'
    headers = {**AUTH, "Content-Type": "multipart/form-data; boundary=b"}
    status, message = await http("POST", "/channels/1/messages", body, headers)
    assert (status, message["content"]) == (200, "hi")


async def test_interaction_callback(gateway, http, autojump_clock):
    body = {"type": 4, "data": {"content": "pong"}}
    assert await http("POST", "/interactions/77/secret/callback", body, headers={}) == (204, None)
    [answer] = gateway.report.interactions
    assert (answer.interaction_id, answer.type, answer.data) == ("77", 4, {"content": "pong"})
    assert "secret" not in repr(gateway.report)
    assert (await http("POST", "/interactions/77/secret/callback", {"data": 1}))[0] == 400


@pytest.mark.parametrize("path", ["/applications/5/commands", "/applications/5/guilds/6/commands"])
async def test_commands(http, path, autojump_clock):
    assert await http("GET", path) == (200, [])
    status, registered = await http("PUT", path, [{"name": "ping", "description": "Pong."}, {"name": "me", "type": 2}])
    assert status == 200
    assert [(c["name"], c["type"], c["application_id"]) for c in registered] == [("ping", 1, "5"), ("me", 2, "5")]
    assert await http("GET", path) == (200, registered)
    for wrong in ({}, [{"description": "x"}], [1]):
        assert (await http("PUT", path, wrong))[0] == 400


async def test_requests_are_counted_by_route(gateway, http, autojump_clock):
    await http("GET", "/gateway")
    await http("POST", "/interactions/1/secret/callback", {"type": 5})
    await http("GET", "/x")
    assert gateway.report.http_requests == {
        "GET /gateway": 1, "POST /interactions/{interaction}/{token}/callback": 1, "404": 1,
    }  # fmt: skip


async def test_a_body_that_is_too_long(http, autojump_clock):
    with pytest.raises((trio.BrokenResourceError, h11.RemoteProtocolError)):
        await http("POST", "/channels/1/messages", b"x" * (2 * 1024 * 1024))


async def test_continue_is_said_to_those_who_wait_for_it(gateway, autojump_clock):
    async with await gateway.dial() as stream:
        await stream.send_all(
            b"POST /interactions/1/x/callback HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b'{"type":1}')
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("data", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x00\r\n\r\n"])
async def test_what_is_no_http(gateway, data, autojump_clock):
    async with await gateway.dial() as stream:
        await stream.send_all(data)
        assert b" 400 " in await stream.receive_some()
        assert await stream.receive_some() == b""


async def test_a_faulty_upgrade(gateway, autojump_clock):
    async with await gateway.dial() as stream:
        await stream.send_all(
            b"GET /?v=10 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b" 400 " in await stream.receive_some()
    assert gateway.report.connections == 0


async def test_connection_close(gateway, autojump_clock):
    async with await gateway.dial() as stream:
        await stream.send_all(b"GET /gateway HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await stream.receive_some()
        assert await stream.receive_some() == b""
