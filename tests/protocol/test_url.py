from __future__ import annotations

import pytest

from trioshard.protocol.url import check_url, connection_url


@pytest.mark.parametrize(
    "base",
    [
        "wss://gateway.discord.gg",
        "wss://gateway.discord.gg/",
        "wss://gateway.discord.gg/?v=6&encoding=etf&compress=zstd-stream",
        "wss://gateway.discord.gg?v=6",
        "wss://gateway.discord.gg/#top",
    ],
)
@pytest.mark.parametrize(
    ("compress", "query"),
    [
        (None, "v=10&encoding=json"),
        ("payload", "v=10&encoding=json"),
        ("zlib-stream", "v=10&encoding=json&compress=zlib-stream"),
        ("zstd-stream", "v=10&encoding=json&compress=zstd-stream"),
    ],
)
def test_the_query_is_built_anew(base, compress, query):
    assert connection_url(base, compress=compress) == f"wss://gateway.discord.gg/?{query}"


def test_port_path_and_encoding_are_kept():
    assert connection_url("ws://[::1]:8080/gw", compress=None, encoding="etf") == (
        "ws://[::1]:8080/gw?v=10&encoding=etf"
    )


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("wss://gateway.discord.gg", "gateway.discord.gg", None),
        ("ws://127.0.0.1:8080/x?y=z", "127.0.0.1", 8080),
        ("WSS://Gateway.Example:443", "gateway.example", 443),
    ],
)
def test_a_good_url(url, host, port):
    parts = check_url(url)
    assert (parts.hostname, parts.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    ["", "gateway.discord.gg", "https://discord.com/api", "wss:///path", "wss://:443", "wss://a:port", "wss://a:99999"],
)
def test_no_gateway_url(url):
    with pytest.raises(ValueError):
        check_url(url)
