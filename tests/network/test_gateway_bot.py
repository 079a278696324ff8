"""``GET /gateway/bot`` as it is answered on bad days. The API is scripted, over memory streams, in virtual time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import trio

import trioshard
from tests.network.servers import LOGIN_PAGE, read_head, response
from trioshard import Backoff, Intents
from trioshard._config import ShardConfig, Token
from trioshard._http import ANSWER_TIMEOUT, LONGEST_ANSWER, LONGEST_RETRY_AFTER, fetch_gateway
from trioshard.errors import AuthenticationFailed, ConnectFailed, GatewayUnreachable, SessionStartsExhausted
from trioshard.testing import memory_stream_pair, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

TOKEN = "t0ken"
HTML = "Content-Type: text/html; charset=utf-8"
JSON = "Content-Type: application/json"


def as_json(document: object, status: int = 200, *headers: str) -> bytes:
    return response(status, JSON, *headers, body=json.dumps(document).encode())


def gateway_bot(**limit: int) -> bytes:
    return as_json({"url": "wss://gateway.test", "shards": 2, "session_start_limit": limit})


@dataclass
class Api:
    """Answers one connection after the other, the last way for ever."""

    nursery: trio.Nursery
    answers: list[bytes | Callable[[trio.abc.Stream], Awaitable[None]]]
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("api.test", 80)
        await trio.lowlevel.checkpoint()
        client, server = memory_stream_pair(4096)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.nursery.start_soon(self._serve, server, answer)
        return client

    async def _serve(
        self, stream: trio.abc.Stream, answer: bytes | Callable[[trio.abc.Stream], Awaitable[None]]
    ) -> None:
        self.heard.append(await read_head(stream))
        self.asked_at.append(trio.current_time())
        try:
            if isinstance(answer, bytes):
                await stream.send_all(answer)
            else:
                await answer(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    @property
    def config(self) -> ShardConfig:
        return ShardConfig(
            token=Token(TOKEN), intents=0, shard=(1, 2), api_url="http://api.test/api/v10/", dial=self.dial
        )


@pytest.fixture
async def api(nursery: trio.Nursery) -> Api:
    return Api(nursery, [gateway_bot()])


async def fail(api: Api, *answers: Any) -> ConnectFailed:
    api.answers = list(answers)
    with pytest.raises(ConnectFailed) as caught:
        await fetch_gateway(api.config, identifying=True)
    assert TOKEN not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    return caught.value


# --- the question ---


async def test_it_is_asked_once_with_the_token_and_a_name(api: Api, autojump_clock: MockClock) -> None:
    info = await fetch_gateway(api.config, identifying=True)
    assert (info.url, info.shards, info.session_start_limit.remaining) == ("wss://gateway.test", 2, 1000)
    [(request, headers)] = api.heard
    assert request == "GET /api/v10/gateway/bot HTTP/1.1"
    assert headers["authorization"] == f"Bot {TOKEN}"
    assert headers["host"] == "api.test"
    assert headers["user-agent"].startswith("DiscordBot (https://")


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: chunked\r\n\r\n1d\r\n"
        + json.dumps({"url": "wss://gateway.test"}).encode()
        + b"\r\n0\r\n\r\n",
        b"\r\n" + json.dumps({"url": "wss://gateway.test"}).encode(),
    ],
    ids=["chunked", "until the end"],
)
async def test_an_answer_may_be_framed_as_the_server_likes(framing: bytes, api: Api, autojump_clock: MockClock) -> None:
    api.answers = [b"HTTP/1.1 200 OK\r\n" + framing]
    assert (await fetch_gateway(api.config, identifying=True)).url == "wss://gateway.test"


# --- answers that are none ---


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(200, HTML, body=LOGIN_PAGE), id="login page"),
        pytest.param(response(200, JSON), id="empty"),
        pytest.param(as_json(None), id="null"),
        pytest.param(as_json([]), id="list"),
        pytest.param(as_json({}), id="nothing in it"),
        pytest.param(as_json({"url": None}), id="no url"),
        pytest.param(as_json({"url": 5}), id="number for url"),
        pytest.param(as_json({"url": "https://gateway.test"}), id="another scheme"),
        pytest.param(as_json({"url": "wss://" + "x" * 9000 + ":port"}), id="long nonsense"),
        pytest.param(as_json({"url": "wss://a", "session_start_limit": None}), id="limit null"),
        pytest.param(as_json({"url": "wss://a", "session_start_limit": {"remaining": "0"}}), id="limit text"),
        pytest.param(response(200, JSON, body=b"\xff\xfe"), id="no UTF-8"),
        pytest.param(response(200, JSON, body=b'{"url": "wss://a"'), id="half"),
        pytest.param(response(200, JSON, body=b"[" * 60_000), id="deep"),
    ],
)
async def test_something_else_than_an_address_says_so_and_is_tried_again(
    answer: bytes, api: Api, autojump_clock: MockClock
) -> None:
    error = await fail(api, answer)
    assert "http://api.test/api/v10/gateway/bot answered with something else than a gateway's address" in str(error)
    assert "Perhaps a captive portal or a proxy answered" in str(error)
    assert len(str(error)) < 400
    assert not error.permanent


@pytest.mark.parametrize("framing", ["Content-Length: 99999999999", "Transfer-Encoding: chunked"])
async def test_no_more_is_read_of_a_huge_answer_than_anybody_needs(
    framing: str, api: Api, autojump_clock: MockClock
) -> None:
    sent = 0

    async def flood(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        while sent < 9 * LONGEST_ANSWER:
            await stream.send_all(b"400\r\n" + b"x" * 0x400 + b"\r\n")
            sent += 0x400

    error = await fail(api, flood)
    assert f"more than {LONGEST_ANSWER} bytes" in str(error)
    assert sent < 3 * LONGEST_ANSWER
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("answer", "says", "permanent"),
    [
        (b"", "hung up", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "hung up", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{", "hung up", False),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP", True),
        (b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 200_000, "does not speak HTTP", True),
    ],
    ids=["nothing", "half a head", "half a body", "ssh", "a head without end"],
)
async def test_an_answer_that_is_not_whole_or_no_http(
    answer: bytes, says: str, permanent: bool, api: Api, autojump_clock: MockClock
) -> None:
    error = await fail(api, answer)
    assert f"http://api.test {says}" in str(error)
    assert error.permanent is permanent


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"], ids=["silent", "dripping"])
async def test_a_slow_answer_has_a_limit_as_a_whole(begin: bytes, api: Api, autojump_clock: MockClock) -> None:
    async def drip(stream: trio.abc.Stream) -> None:
        for byte in begin:
            await stream.send_all(bytes([byte]))
        while True:
            await trio.sleep(1)
            if begin:
                await stream.send_all(b" ")

    error = await fail(api, drip)
    assert f"http://api.test did not answer within {ANSWER_TIMEOUT:g} s" in str(error)
    assert not error.permanent
    assert trio.current_time() == pytest.approx(ANSWER_TIMEOUT)


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((status, True) for status in (400, 403, 404, 410)),
        *((status, False) for status in (204, 301, 307, 408, 425, 429, 500, 502, 503, 504, 511, 520)),
    ],
)
async def test_a_refusal_tells_whether_waiting_may_help(
    status: int, permanent: bool, api: Api, autojump_clock: MockClock
) -> None:
    error = await fail(api, response(status, HTML, body=LOGIN_PAGE))
    assert f"answered with HTTP {status}" in str(error)
    assert ("captive portal" in str(error)) is (status in (204, 301, 307, 511))
    assert error.permanent is permanent


async def test_nobody_waits_for_the_body_of_a_refusal(api: Api, autojump_clock: MockClock) -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 99999\r\n\r\n<html>")
        await trio.sleep_forever()

    assert "HTTP 502" in str(await fail(api, refuse))
    assert trio.current_time() == 0


async def test_a_refusal_is_heard_although_the_server_hung_up_before_the_question(autojump_clock: MockClock) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        client, server = memory_stream_pair()
        await server.send_all(response(503))
        await server.aclose()
        return client

    config = ShardConfig(token=Token(TOKEN), intents=0, api_url="http://api.test", dial=dial)
    with pytest.raises(ConnectFailed, match="HTTP 503"):
        await fetch_gateway(config, identifying=True)


async def test_a_refusal_of_the_token_by_discord_ends_the_shard(api: Api, autojump_clock: MockClock) -> None:
    api.answers = [as_json({"message": "401: Unauthorized", "code": 0}, 401)]
    with pytest.raises(AuthenticationFailed, match="HTTP 401"):
        await fetch_gateway(api.config, identifying=True)


async def test_a_login_page_with_401_is_no_word_on_the_token(api: Api, autojump_clock: MockClock) -> None:
    error = await fail(api, response(401, HTML, "WWW-Authenticate: Basic", body=LOGIN_PAGE))
    assert "HTTP 401" in str(error)


@pytest.mark.parametrize("location", ["https://login.hotel.test/?from=api", "//login.hotel.test/", "http://[", ""])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, location: str, api: Api, autojump_clock: MockClock) -> None:
    error = await fail(api, response(status, f"Location: {location}"))
    assert len(api.heard) == 1
    assert not error.permanent
    if "hotel" in location:
        assert "a redirect to http" in str(error)
        assert "://login.hotel.test, which was not followed" in str(error)


@pytest.mark.parametrize("answer", [response(404), response(200, HTML, body=LOGIN_PAGE), response(302), b""])
async def test_credentials_in_the_address_of_the_api_are_not_repeated(
    answer: bytes, api: Api, autojump_clock: MockClock
) -> None:
    api.answers = [answer]
    config = replace(api.config, api_url="http://me:s3cret@api.test/api")
    with pytest.raises(ConnectFailed, match=r"http://api\.test") as caught:
        await fetch_gateway(config, identifying=True)
    assert "s3cret" not in f"{caught.value} {api.heard}"


# --- how long to stay away ---


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("0.25", 0.25),
        ("86400", LONGEST_RETRY_AFTER),
        ("1e999", LONGEST_RETRY_AFTER),
        ("-5", 0.0),
        ("nan", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("", 0.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_server_says_how_long_to_stay_away_within_reason(
    status: int, value: str, seconds: float, api: Api, autojump_clock: MockClock
) -> None:
    assert (await fail(api, response(status, f"Retry-After: {value}"))).retry_after == seconds


async def test_a_shard_stays_away_for_as_long_as_it_is_told(api: Api, autojump_clock: MockClock) -> None:
    api.answers = [response(429, "Retry-After: 120"), response(429, "Retry-After: 86400"), as_json({}, 401)]
    with pytest.raises(AuthenticationFailed):
        async with trioshard.open_shard(
            TOKEN,
            intents=Intents.NONE,
            api_url="http://api.test",
            dial=api.dial,
            backoff=Backoff(base=0.001, cap=0.001),
        ):
            await trio.sleep_forever()
    first, second, third = api.asked_at
    assert second - first == pytest.approx(120, abs=0.1)
    assert third - second == pytest.approx(LONGEST_RETRY_AFTER, abs=0.1)


async def test_a_session_is_resumed_without_waiting_for_the_api(api: Api, autojump_clock: MockClock) -> None:
    """The resume URL leads nowhere, and the API wants nobody for two minutes: the session would not live that long."""
    async with open_local_gateway(port=None, token=TOKEN) as gateway:
        async with trioshard.open_shard(
            TOKEN, intents=Intents.NONE, url=gateway.url, dial=gateway.dial, keep_session=True, events=False
        ) as shard:
            await shard.wait_ready()
        api.answers = [response(429, "Retry-After: 120")]
        tried = 0

        async def dial(host: str, port: int) -> trio.abc.Stream:
            nonlocal tried
            if host == "api.test":
                return await api.dial(host, port)
            tried += 1
            if tried <= 2:
                raise OSError("no route")
            return await gateway.dial(host, port)

        async with trioshard.open_shard(
            TOKEN,
            intents=Intents.NONE,
            api_url="http://api.test",
            dial=dial,
            session=shard.session,
            events=False,
            backoff=Backoff(base=0.1, cap=0.1),
        ):
            with trio.fail_after(10):
                await gateway.wait_resumed()
        assert len(api.heard) >= 1


# --- the session starts of the day ---


@pytest.mark.parametrize("remaining", [0, -1])
async def test_without_session_starts_nothing_is_started(remaining: int, api: Api, autojump_clock: MockClock) -> None:
    api.answers = [gateway_bot(total=1000, remaining=remaining, reset_after=90_000)]
    with pytest.raises(SessionStartsExhausted, match=r"all 1000 session starts .* in 90 s") as caught:
        await fetch_gateway(api.config, identifying=True)
    assert caught.value.reset_after == 90.0
    assert caught.value.shard == (1, 2)


async def test_without_session_starts_a_session_can_still_be_resumed(api: Api, autojump_clock: MockClock) -> None:
    api.answers = [gateway_bot(remaining=0)]
    assert (await fetch_gateway(api.config, identifying=False)).url == "wss://gateway.test"


@pytest.mark.parametrize("answer", [response(500), response(502, HTML, body=LOGIN_PAGE), as_json(None), b""])
async def test_an_api_that_fails_all_the_time_is_given_up_before_anything_was_connected(
    answer: bytes, api: Api, autojump_clock: MockClock
) -> None:
    api.answers = [answer]
    with pytest.raises(GatewayUnreachable, match=r"after 8 attempts: http://api\.test"):
        async with trioshard.open_shard(TOKEN, intents=Intents.NONE, api_url="http://api.test", dial=api.dial):
            await trio.sleep_forever()
    assert len(api.heard) == 8
