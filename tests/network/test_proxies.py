"""Which proxy is for which URL, and what is no proxy."""

from __future__ import annotations

import sys

import pytest

import trioshard
from trioshard import Intents
from trioshard._config import ShardConfig, Token
from trioshard._proxies import Proxy, find_proxy
from trioshard.errors import MissingDependency

GATEWAY, API = "wss://gateway.discord.gg", "https://discord.com/api/v10"


def found(url: str, *, given: Proxy | None = None, trust_env: bool = True) -> str | None:
    proxy = find_proxy(url, given=given, trust_env=trust_env)
    return None if proxy is None else proxy.origin


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://host:3128", Proxy("http", "host", 3128)),
        ("host:3128", Proxy("http", "host", 3128)),
        ("HTTP://host/", Proxy("http", "host", 80)),
        ("https://host", Proxy("https", "host", 443)),
        ("socks5://host", Proxy("socks5", "host", 1080)),
        ("socks5h://host:9050", Proxy("socks5", "host", 9050)),
        ("socks://host:9050/", Proxy("socks5", "host", 9050)),
        ("http://[::1]:3128", Proxy("http", "::1", 3128)),
        ("http://me:s3cret@host:1", Proxy("http", "host", 1, "me", "s3cret")),
        ("http://me:s%40:%2Fcret@host:1", Proxy("http", "host", 1, "me", "s@:/cret")),
        ("http://me@host:1", Proxy("http", "host", 1, "me", "")),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: Proxy) -> None:
    assert Proxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "ftp://me:s3cret@host",
        "socks4://me:s3cret@host",
        "http://me:s3cret/1@host:3128",
        "http://me:s3cret?1@host:3128",
        "http://me:s3cret@host:port",
        "http://me:s3cret@[host",
        "socks5://me@host",
        "socks5://me:s3cr%C3%A9t@host",
        f"socks5://me:{'s3cret' * 50}@host",
    ],
)
async def test_what_is_no_proxy_is_refused_at_the_border_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"a proxy looks like|SOCKS proxy are") as caught:
        async with trioshard.open_shard("secret", intents=Intents.NONE, proxy=url):
            pytest.fail("it was opened")
    assert "s3c" not in str(caught.value)


def test_a_password_shows_itself_to_nobody() -> None:
    proxy = Proxy.parse("http://me:s3cret@host:3128")
    config = ShardConfig(token=Token("secret"), intents=0, proxy=proxy)
    assert "s3cret" not in f"{proxy!r} {proxy} {proxy.origin} {config!r}"
    assert "me" not in proxy.origin


def test_a_given_proxy_is_for_every_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "*")
    given = Proxy.parse("http://host:3128")
    for url in (GATEWAY, API, "ws://127.0.0.1:5"):
        assert found(url, given=given) == "http://host:3128"


@pytest.mark.parametrize(
    ("variables", "https", "http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1", None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1", None),
        ({"HTTP_PROXY": "b:1"}, None, "http://b:1"),
        ({"ALL_PROXY": "socks5://c:1"}, "socks5://c:1", "socks5://c:1"),
        ({"HTTPS_PROXY": "http://a:1", "all_proxy": "socks5://c:1"}, "http://a:1", "socks5://c:1"),
    ],
)
def test_the_environment_names_one_for_each_scheme(
    variables: dict[str, str], https: str | None, http: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (found(GATEWAY), found(API)) == (https, https)
    assert (found("ws://gateway.test"), found("http://api.test/v10")) == (http, http)
    assert found(GATEWAY, trust_env=False) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "goes_through"),
    [
        ("*", GATEWAY, False),
        ("discord.gg", GATEWAY, False),
        (".discord.gg", GATEWAY, False),
        ("example.com, discord.com", API, False),
        ("discord.com:443", API, False),
        ("discord.com:8443", API, True),
        ("cord.com", API, True),
        ("", API, True),
    ],
)
def test_no_proxy_names_exceptions(
    no_proxy: str, url: str, goes_through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://a:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (found(url) is not None) is goes_through


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1:1", "127.8.8.8", "[::1]:1", "gateway.localhost"])
def test_this_machine_is_always_an_exception(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://a:1")
    assert found(f"ws://{host}") is None
    assert found("ws://192.168.0.1") == "http://a:1"


async def test_nonsense_in_the_environment_is_refused_at_the_border_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://me:s3cret@host")
    with pytest.raises(ValueError, match=r"HTTPS_PROXY in the environment .* trust_env=False ignores it") as caught:
        async with trioshard.open_shard("secret", intents=Intents.NONE):
            pytest.fail("it was opened")
    assert "s3cret" not in str(caught.value)


async def test_a_dialer_and_a_proxy_exclude_each_other() -> None:
    async def dial(host: str, port: int) -> None:
        pytest.fail("nobody dials")

    with pytest.raises(ValueError, match="pass one of them"):
        async with trioshard.open_shard("secret", intents=Intents.NONE, dial=dial, proxy="http://host:3128"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("given", [True, False])
async def test_socks_without_the_package_says_what_to_install(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks.async_.trio.v2", None)
    monkeypatch.setenv("ALL_PROXY", "http://me" if given else "socks5://me")
    with pytest.raises(MissingDependency, match=r"pip install 'trioshard\[socks\]'"):
        async with trioshard.open_shard("secret", intents=Intents.NONE, proxy="socks5://host" if given else None):
            pytest.fail("it was opened")


@pytest.mark.parametrize("url", ["discord.com/api", "wss://discord.com", "https://", "https://discord.com:api"])
async def test_an_address_of_the_api_that_is_none_is_refused_at_the_border(url: str) -> None:
    with pytest.raises(ValueError, match=r"api_url looks like|ort"):
        async with trioshard.open_shard("secret", intents=Intents.NONE, api_url=url):
            pytest.fail("it was opened")
