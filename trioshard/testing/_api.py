"""The few HTTP routes that gateway bots need to start and to answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
import trio

from trioshard.testing import _payloads
from trioshard.testing._http import Request, Response
from trioshard.testing._report import InteractionCallback

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard.testing._core import Core
    from trioshard.testing._payloads import JSONObject
    from trioshard.testing._sessions import Bot

_PREFIX: Final = re.compile(r"^/api(/v\d+)?(?=/)")
_NOT_FOUND: Final = Response.error(404, "404: Not Found")
_UNAUTHORIZED: Final = Response.error(401, "401: Unauthorized")

_INVALID_FORM: Final = Response.error(400, "Invalid Form Body", 50035)

T = TypeVar("T")


class _NewMessage(msgspec.Struct):
    """The body of a new message, as far as it matters here."""

    content: Annotated[str, msgspec.Meta(max_length=2_000)] | None = None
    embeds: list[Any] = []
    components: list[Any] = []
    nonce: str | int | None = None


class _Callback(msgspec.Struct):
    """The body of an answer to an interaction."""

    type: int
    data: Any = None


class Api:
    """Answers HTTP requests as ``https://discord.com/api`` does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._commands: dict[str, list[JSONObject]] = {}
        """Registered application commands by path."""
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Response], bool]] = [
            self._route("GET", "/gateway", self._get_gateway, auth=False),
            self._route("GET", "/gateway/bot", self._get_gateway_bot),
            self._route("GET", "/users/@me", self._get_me),
            self._route("GET", "/applications/@me", self._get_application),
            self._route("GET", "/oauth2/applications/@me", self._get_application),
            self._route("GET", "/applications/{application}/commands", self._get_commands),
            self._route("PUT", "/applications/{application}/commands", self._put_commands),
            self._route("GET", "/applications/{application}/guilds/{guild}/commands", self._get_commands),
            self._route("PUT", "/applications/{application}/guilds/{guild}/commands", self._put_commands),
            self._route("POST", "/channels/{channel}/messages", self._post_message),
            self._route("POST", "/interactions/{interaction}/{token}/callback", self._post_callback, auth=False),
        ]

    @staticmethod
    def _route(
        method: str, template: str, handler: Callable[..., Response], *, auth: bool = True
    ) -> tuple[str, re.Pattern[str], Callable[..., Response], bool]:
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))
        return method, pattern, handler, auth

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        path = _PREFIX.sub("", request.path)
        for method, pattern, handler, auth in self._routes:
            match = pattern.fullmatch(path)
            if match is None or method != request.method:
                continue
            # The template, not the path: that could hold the token of an interaction.
            self._core.report.http_requests[f"{method} {_readable(pattern)}"] += 1
            if not auth:
                return handler(request, **match.groupdict())
            bot = self._authorize(request)
            return _UNAUTHORIZED if bot is None else handler(request, bot, **match.groupdict())
        self._core.report.http_requests["404"] += 1
        return _NOT_FOUND

    def _authorize(self, request: Request) -> Bot | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._core.registry.bot(token.strip(), trio.current_time()) if scheme == "Bot" else None

    def _get_gateway(self, _request: Request) -> Response:
        return Response.json({"url": self._core.settings.url})

    def _get_gateway_bot(self, _request: Request, bot: Bot) -> Response:
        settings = self._core.settings
        limit = {
            "total": settings.session_starts,
            "remaining": self._core.registry.starts_left(bot),
            "reset_after": max(0, round((bot.starts_reset_at - trio.current_time()) * 1000)),
            "max_concurrency": settings.max_concurrency,
        }
        return Response.json({"url": settings.url, "shards": settings.shards, "session_start_limit": limit})

    def _get_me(self, _request: Request, _bot: Bot) -> Response:
        return Response.json(_payloads.bot_user())

    def _get_application(self, _request: Request, _bot: Bot) -> Response:
        return Response.json(_payloads.application())

    def _get_commands(self, request: Request, _bot: Bot, **_ids: str) -> Response:
        return Response.json(self._commands.get(_PREFIX.sub("", request.path), []))

    def _put_commands(self, request: Request, _bot: Bot, application: str, guild: str | None = None) -> Response:
        commands = _read_json(request, list[dict[str, Any]])
        if commands is None or not all(isinstance(command.get("name"), str) for command in commands):
            return _INVALID_FORM
        registered: list[JSONObject] = []
        for number, command in enumerate(commands, 1):
            defaults: JSONObject = {"type": 1, "description": "", "default_member_permissions": None, "nsfw": False}
            ids = {"id": str(_payloads.APPLICATION_ID + number), "application_id": application, "version": "1"}
            registered.append(defaults | command | ids | ({"guild_id": guild} if guild else {}))
        self._commands[_PREFIX.sub("", request.path)] = registered
        return Response.json(registered)

    def _post_message(self, request: Request, _bot: Bot, channel: str) -> Response:
        body = _read_json(request, _NewMessage)
        if body is None or not channel.isdigit():
            return _INVALID_FORM
        extra = {"embeds": body.embeds, "components": body.components}
        if not body.content and not any(extra.values()):
            return Response.error(400, "Cannot send an empty message", 50006)
        message = self._core.post_message(
            body.content or "",
            channel_id=int(channel),
            author=_payloads.bot_user(),
            nonce=body.nonce,
            extra={key: value for key, value in extra.items() if value},
        )
        # What is answered here lacks what only the gateway adds.
        return Response.json({key: value for key, value in message.items() if key not in ("guild_id", "member")})

    def _post_callback(self, request: Request, interaction: str, token: str) -> Response:
        # Whatever the token of the interaction is, it is right, and it is not written down.
        del token
        body = _read_json(request, _Callback)
        if body is None:
            return _INVALID_FORM
        answer = InteractionCallback(trio.current_time(), interaction, body.type, body.data)
        self._core.report.interactions.append(answer)
        return Response(204)


def _read_json(request: Request, form: type[T]) -> T | None:
    """The body in this form: as it is, or as the `payload_json` part of a multipart body. None when it is not."""
    body = request.body
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        part = re.search(rb'name="payload_json".*?\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
        body = part[1] if part is not None else b""
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.DecodeError:
        return None


def _readable(pattern: re.Pattern[str]) -> str:
    return re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)", r"{\1}", pattern.pattern)
