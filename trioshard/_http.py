"""The one question that a shard asks over HTTP: where is the gateway?

Source: *Gateway*, get gateway bot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import h11
import msgspec
import trio

from trioshard._http1 import Exchange, HungUp, TooLong, looks_intercepted, waiting_helps
from trioshard._proxies import origin_of, port_of
from trioshard._streams import connect_failed, drop, start_tls
from trioshard._version import __version__
from trioshard.errors import AuthenticationFailed, ConnectFailed, SessionStartsExhausted
from trioshard.protocol.starts import SessionStartLimit
from trioshard.protocol.url import is_url

if TYPE_CHECKING:
    from trioshard._config import ShardConfig

__all__ = ["GatewayInfo", "USER_AGENT", "fetch_gateway"]

USER_AGENT: Final = f"DiscordBot (https://github.com/trioshard/trioshard, {__version__})"
"""Discord asks for this form, and blocks clients without it."""

ANSWER_TIMEOUT: Final = 30.0
"""Seconds for name lookup, TCP, TLS, the question and the whole answer together."""

LONGEST_ANSWER: Final = 65536
"""Bytes. The answer has some 200."""

LONGEST_RETRY_AFTER: Final = 900.0
"""Seconds. Who is sent away for longer still asks this often."""

_OK, _UNAUTHORIZED = 200, 401


class GatewayInfo(msgspec.Struct, frozen=True):
    """The answer of ``GET /gateway/bot``."""

    url: str
    shards: int = 1
    session_start_limit: SessionStartLimit = SessionStartLimit()


async def fetch_gateway(config: ShardConfig, *, identifying: bool) -> GatewayInfo:
    """Ask ``GET /gateway/bot``. Redirects are not followed: the token is for nobody else.

    Args:
        config: token, address, trust, and the way there.
        identifying: whether a session is going to be started.

    Raises:
        AuthenticationFailed: the token is not accepted (HTTP 401). No session start was spent on it.
        SessionStartsExhausted: no session may be started today.
        ConnectFailed: there was no usable answer.
    """
    url = f"{config.api_url.rstrip('/')}/gateway/bot"
    head, body = await _ask(url, config)
    if head.status_code == _UNAUTHORIZED and _field(head, b"content-type").startswith("application/json"):
        raise AuthenticationFailed(
            "Discord does not accept the token (HTTP 401). Copy the bot token from the Developer Portal again;"
            " it is passed bare, without 'Bot '.",
            shard=config.shard,
        )
    if head.status_code != _OK:
        raise _refused(url, head)
    try:
        info = msgspec.json.decode(body, type=GatewayInfo)
    except ValueError as exc:  # msgspec's and Unicode errors are such, too
        raise _nonsense(url, str(exc)) from exc
    if not is_url(info.url):
        raise _nonsense(url, "its url is none of a gateway")
    limit = info.session_start_limit
    if limit.remaining < 1 and identifying:
        raise SessionStartsExhausted(
            f"all {limit.total} session starts of the day are used up; one more, and Discord would reset the token."
            f" Nothing was sent. New ones come in {limit.reset_after / 1000:.0f} s.",
            reset_after=limit.reset_after / 1000,
            shard=config.shard,
        )
    return info


async def _ask(url: str, config: ShardConfig) -> tuple[h11.Response, bytes]:
    """Return the head of the answer and, if it is a good one, its body."""
    parts, origin = urlsplit(url), origin_of(url)
    assert parts.hostname is not None
    headers = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": USER_AGENT,
        "Authorization": f"Bot {config.token.reveal()}",
        "Connection": "close",
    }
    stream: trio.abc.Stream | None = None
    try:
        with trio.fail_after(ANSWER_TIMEOUT):
            stream = await config.dialer(url)(parts.hostname, port_of(parts))
            if parts.scheme == "https":
                stream = await start_tls(stream, parts.hostname, config.ssl_context)
            exchange = Exchange(stream)
            head = await exchange.ask("GET", parts.path, headers)
            return head, await exchange.read_body(LONGEST_ANSWER) if head.status_code == _OK else b""
    except trio.TooSlowError:
        raise ConnectFailed(f"{origin} did not answer within {ANSWER_TIMEOUT:g} s") from None
    except TooLong:
        raise _nonsense(url, f"more than {LONGEST_ANSWER} bytes") from None
    except HungUp as exc:
        raise ConnectFailed(f"{origin} hung up before its answer was whole") from exc
    except h11.ProtocolError as exc:
        raise ConnectFailed(f"{origin} does not speak HTTP. Check api_url=", permanent=True) from exc
    except (OSError, trio.BrokenResourceError) as exc:
        raise connect_failed(origin, exc, own_context=config.ssl_context is not None) from exc
    except ValueError as exc:  # a host name that is none, or a proxy in the environment
        raise ConnectFailed(f"cannot connect to {origin}: {exc}", permanent=True) from exc
    finally:
        if stream is not None:
            await drop(stream)


def _shown(url: str) -> str:
    return origin_of(url) + urlsplit(url).path


def _nonsense(url: str, what: str) -> ConnectFailed:
    return ConnectFailed(
        f"{_shown(url)} answered with something else than a gateway's address ({what}). Perhaps a captive portal or a"
        " proxy answered: log in to the network"
    )


def _refused(url: str, head: h11.Response) -> ConnectFailed:
    said = f"{_shown(url)} answered with HTTP {head.status_code}"
    location = _field(head, b"location")
    if location and 300 <= head.status_code < 400:
        try:
            said += f", a redirect to {origin_of(urljoin(url, location))}, which was not followed"
        except ValueError:
            said += ", a redirect to nowhere"
    if looks_intercepted(head.status_code):
        said += ". Perhaps a captive portal or a proxy answered: log in to the network"
    return ConnectFailed(said, permanent=not waiting_helps(head.status_code), retry_after=_retry_after(head))


def _retry_after(head: h11.Response) -> float:
    """Return the seconds that the server asks to wait, within reason. It may also name a date; Discord does not."""
    try:
        seconds = float(_field(head, b"retry-after"))
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0.0 else 0.0


def _field(head: h11.Response, name: bytes) -> str:
    """Return a header field, or an empty text."""
    return next((value.decode("latin-1") for field, value in head.headers if field == name), "")
