"""The one question that a shard asks over HTTP: where is the gateway?

Source: *Gateway*, get gateway bot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import msgspec

from trioshard._open_transport import default_ssl_context
from trioshard._version import __version__
from trioshard.errors import AuthenticationFailed, ConnectFailed, SessionStartsExhausted
from trioshard.protocol.url import check_url

if TYPE_CHECKING:
    from trioshard._config import ShardConfig

__all__ = ["GatewayInfo", "USER_AGENT", "fetch_gateway"]

USER_AGENT: Final = f"DiscordBot (https://github.com/trioshard/trioshard, {__version__})"
"""Discord asks for this form, and blocks clients without it."""

_TIMEOUT: Final = 15.0

_OK, _UNAUTHORIZED, _TOO_MANY_REQUESTS = 200, 401, 429


class SessionStartLimit(msgspec.Struct, frozen=True):
    """How many sessions may be started. ``reset_after`` is in **milliseconds**."""

    total: int = 1000
    remaining: int = 1000
    reset_after: int = 0
    max_concurrency: int = 1


class GatewayInfo(msgspec.Struct, frozen=True):
    """The answer of ``GET /gateway/bot``."""

    url: str
    shards: int = 1
    session_start_limit: SessionStartLimit = SessionStartLimit()


async def fetch_gateway(config: ShardConfig, *, identifying: bool) -> GatewayInfo:
    """Ask ``GET /gateway/bot``.

    Args:
        config: token, address and trust.
        identifying: whether a session is going to be started.

    Raises:
        AuthenticationFailed: the token is not accepted (HTTP 401). No session start was spent on it.
        SessionStartsExhausted: no session may be started today.
        ConnectFailed: there was no usable answer.
    """
    url = f"{config.api_url.rstrip('/')}/gateway/bot"
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, verify=config.ssl_context or default_ssl_context()) as client:
            response = await client.get(
                url,
                headers={"Authorization": f"Bot {config.token.reveal()}", "User-Agent": USER_AGENT},
            )
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        # Without the cause: the request in it carries the token.
        raise ConnectFailed(f"{url} cannot be reached: {str(exc) or type(exc).__name__}") from None
    if response.status_code == _UNAUTHORIZED:
        raise AuthenticationFailed(
            "Discord does not accept the token (HTTP 401). Copy the bot token from the Developer Portal again;"
            " it is passed bare, without 'Bot '.",
            shard=config.shard,
        )
    if response.status_code != _OK:
        permanent = response.status_code < 500 and response.status_code != _TOO_MANY_REQUESTS
        raise ConnectFailed(f"{url} answered with HTTP {response.status_code}", permanent=permanent)
    try:
        info = msgspec.json.decode(response.content, type=GatewayInfo)
        check_url(info.url)
    except ValueError as exc:  # msgspec's and Unicode errors are such, too
        raise ConnectFailed(f"{url} answered with something else than a gateway's address: {exc}") from exc
    limit = info.session_start_limit
    if limit.remaining < 1 and identifying:
        raise SessionStartsExhausted(
            f"all {limit.total} session starts of the day are used up; one more, and Discord would reset the token."
            f" Nothing was sent. New ones come in {limit.reset_after / 1000:.0f} s.",
            reset_after=limit.reset_after / 1000,
            shard=config.shard,
        )
    return info
