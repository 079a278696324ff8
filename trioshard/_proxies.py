"""Which proxy the streams to a host go through, if any: the one that was given, or one that the environment names."""

from __future__ import annotations

import ipaddress
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["Proxy", "find_proxy", "host_and_port", "origin_of", "port_of"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_PROXY_PORTS: Final = {"http": 80, "https": 443, "socks": 1080, "socks5": 1080, "socks5h": 1080}
"""The schemes of proxies. Desktops write ``socks://`` into the environment and mean SOCKS5."""

_LONGEST_SOCKS_CREDENTIAL: Final = 255


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and who asks it. Its ``repr`` and `origin` leave the credentials out.

    Attributes:
        scheme: ``"http"`` and ``"https"`` for CONNECT, without and with TLS to the proxy; ``"socks5"``.
        host: the proxy's name or address.
        port: its port.
        username: ``None`` for a proxy that asks for no credentials.
        password: possibly empty.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read ``http://user:password@host:3128``. Without a scheme it is ``http://``.

        Raises:
            ValueError: it is no such URL. The text does not repeat it: a password may be in it.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except (TypeError, ValueError):
            parts, port = urlsplit(""), None
        if not parts.hostname or parts.scheme not in _PROXY_PORTS or parts.path.strip("/") or parts.query:
            raise ValueError(
                "a proxy looks like http://user:password@host:3128 (or https://, or socks5://), with special characters"
                " in the password percent-encoded"
            )
        username = None if parts.username is None else unquote(parts.username)
        password = unquote(parts.password or "")
        scheme = "socks5" if parts.scheme.startswith("socks") else parts.scheme
        if scheme == "socks5" and username is not None:
            _check_socks_credentials(username, password)
        return cls(scheme, parts.hostname, port or _PROXY_PORTS[parts.scheme], username, password)

    @property
    def origin(self) -> str:
        """What a person may see of it."""
        return f"{self.scheme}://{host_and_port(self.host, self.port)}"


def host_and_port(host: str, port: int) -> str:
    """Return ``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(url: SplitResult) -> int:
    """Return the port of a URL of the gateway or of the API, written or not."""
    return url.port or _DEFAULT_PORTS[url.scheme]


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, without credentials, path and query.

    Raises:
        ValueError: it has none.
    """
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError("a URL begins with a scheme and a host")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def find_proxy(url: str, *, given: Proxy | None, trust_env: bool) -> Proxy | None:
    """Return the proxy for a URL, of the gateway or of the HTTP API.

    One that was given is for every URL. Otherwise ``HTTPS_PROXY`` is for ``https`` and ``wss``, ``HTTP_PROXY`` for
    ``http`` and ``ws``, ``ALL_PROXY`` for what is left; ``NO_PROXY`` names exceptions, and this machine is always one.
    Lower case goes before upper case. Proxies that Windows and macOS have among their settings are not looked at.

    Raises:
        ValueError: the environment holds something else than the URL of a proxy.
    """
    if given is not None or not trust_env:
        return given
    parts = urlsplit(url)
    if not parts.hostname or _is_this_machine(parts.hostname):
        return None
    variables = urllib.request.getproxies_environment()
    if _is_exempt(parts, variables):
        return None
    for name in ("https" if parts.scheme in ("https", "wss") else "http", "all"):
        if variables.get(name):
            try:
                return Proxy.parse(variables[name])
            except ValueError as exc:
                raise ValueError(
                    f"{name.upper()}_PROXY in the environment is no proxy: {exc}; trust_env=False ignores it"
                ) from None
    return None


def _is_exempt(parts: SplitResult, variables: dict[str, str]) -> bool:
    # typeshed does not know this function. It takes the variables as they are, where proxy_bypass() may ask a server.
    bypass: Any = vars(urllib.request)["proxy_bypass_environment"]
    return bool(bypass(f"{parts.hostname}:{port_of(parts)}", variables))


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _check_socks_credentials(username: str, password: str) -> None:
    for value in (username, password):
        if not value.isascii() or not 0 < len(value) <= _LONGEST_SOCKS_CREDENTIAL:
            raise ValueError("user name and password for a SOCKS proxy are 1 to 255 ASCII characters each")
