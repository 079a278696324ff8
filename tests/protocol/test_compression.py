"""From WebSocket messages to documents, with every kind of compression, and with streams that are broken."""

from __future__ import annotations

import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard.errors import GatewayProtocolError, MissingDependency
from trioshard.protocol.compression import (
    DEFAULT_MAX_MESSAGE,
    TRANSPORT_COMPRESSIONS,
    fastest_zlib,
    open_inflater,
    require_zstd,
)

zstd = require_zstd()

HELLO = b'{"op":10,"d":{"heartbeat_interval":45000}}'
DOCUMENTS = [HELLO, b'{"op":11}', HELLO, b'{"op":0,"d":"' + b"abc" * 50_000 + b'"}', b'{"op":11}']

Deflate = Callable[[bytes], bytes]


def zlib_stream() -> Deflate:
    """The server's side of a zlib stream."""
    deflater = zlib.compressobj()
    return lambda document: deflater.compress(document) + deflater.flush(zlib.Z_SYNC_FLUSH)


def zstd_stream() -> Deflate:
    """The server's side of a zstd stream: one frame that never ends."""
    deflater = zstd.ZstdCompressor()
    return lambda document: deflater.compress(document, deflater.FLUSH_BLOCK)


SERVERS: dict[str, Callable[[], Deflate]] = {
    "zlib-stream": zlib_stream,
    "zstd-stream": zstd_stream,
    "payload": lambda: zlib.compress,
}

each_stream = pytest.mark.parametrize("kind", TRANSPORT_COMPRESSIONS)
each_compression = pytest.mark.parametrize("kind", SERVERS)


def test_which_kinds_the_url_names():
    assert TRANSPORT_COMPRESSIONS == ("zlib-stream", "zstd-stream")


# What is whole


@each_compression
def test_many_documents(kind):
    deflate, inflater = SERVERS[kind](), open_inflater(kind)
    for document in DOCUMENTS:
        assert inflater.feed(deflate(document)) == document


@each_compression
@given(documents=st.lists(st.binary(max_size=300), max_size=8))
def test_any_documents(kind, documents):
    deflate, inflater = SERVERS[kind](), open_inflater(kind)
    for document in documents:
        assert inflater.feed(deflate(b'"%b"' % document)) == b'"%b"' % document


@pytest.mark.parametrize("kind", [None, "payload"])
def test_text_passes_as_it_is(kind):
    assert open_inflater(kind).feed('{"op":11}') == '{"op":11}'


def test_without_compression_bytes_pass_as_they_are():
    assert open_inflater(None).feed(b'{"op":11}') == b'{"op":11}'


def test_payload_compression_is_chosen_message_by_message():
    inflater = open_inflater("payload")
    for _ in range(3):
        assert inflater.feed(zlib.compress(HELLO)) == HELLO
        assert inflater.feed(HELLO.decode()) == HELLO.decode()


@each_compression
def test_output_larger_than_any_chunk(kind):
    document = b'"' + bytes(range(32, 127)) * 20_000 + b'"'
    deflate, inflater = SERVERS[kind](), open_inflater(kind)
    assert inflater.feed(deflate(document)) == document
    assert inflater.feed(deflate(HELLO)) == HELLO


@each_stream
def test_the_context_is_kept_for_the_connection(kind):
    deflate = SERVERS[kind]()
    first, second = deflate(HELLO), deflate(HELLO)
    assert len(second) < len(first)
    inflater = open_inflater(kind)
    assert [inflater.feed(first), inflater.feed(second)] == [HELLO, HELLO]


@each_stream
def test_contexts_are_not_shared_between_connections(kind):
    deflate = SERVERS[kind]()
    open_inflater(kind).feed(deflate(HELLO))
    with pytest.raises(GatewayProtocolError):
        open_inflater(kind).feed(deflate(HELLO))


# zlib-stream: a document may come in several messages


def test_zlib_stream_byte_by_byte():
    deflate, inflater = zlib_stream(), open_inflater("zlib-stream")
    for document in DOCUMENTS[:3]:
        *parts, last = (bytes([byte]) for byte in deflate(document))
        assert [inflater.feed(part) for part in parts] == [None] * len(parts)
        assert inflater.feed(last) == document


@pytest.mark.parametrize("tail", [1, 2, 3, 4, 5])
def test_the_suffix_may_be_split_over_messages(tail):
    deflate, inflater = zlib_stream(), open_inflater("zlib-stream")
    for document in DOCUMENTS:
        message = deflate(document)
        assert inflater.feed(message[:-tail]) is None
        assert inflater.feed(b"") is None
        assert inflater.feed(message[-tail:]) == document


@given(
    documents=st.lists(st.text(st.characters(codec="ascii"), max_size=200).map(str.encode), min_size=1, max_size=5),
    data=st.data(),
)
def test_zlib_stream_cut_anywhere(documents, data):
    deflate, inflater = zlib_stream(), open_inflater("zlib-stream")
    for document in documents:
        message = deflate(document)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(message) - 1), max_size=4)))
        parts = [message[start:end] for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        assert [inflater.feed(part) for part in parts] == [None] * len(cuts) + [document]


def test_a_document_that_never_ends_is_given_up_at_the_cap():
    inflater = open_inflater("zlib-stream", max_message=100)
    assert inflater.feed(b"\x01" * 100) is None
    with pytest.raises(GatewayProtocolError, match="100 bytes"):
        inflater.feed(b"\x01")


# What is broken


@each_compression
@pytest.mark.parametrize(
    "garbage", [b"\x00\x00\x00\xff\xff", b"{}\x00\x00\xff\xff", b"\xff" * 50 + b"\x00\x00\xff\xff"]
)
def test_garbage(kind, garbage):
    with pytest.raises(GatewayProtocolError):
        open_inflater(kind).feed(garbage)


@each_stream
def test_garbage_in_the_middle_of_a_stream(kind):
    deflate, inflater = SERVERS[kind](), open_inflater(kind)
    inflater.feed(deflate(HELLO))
    with pytest.raises(GatewayProtocolError, match="broken"):
        inflater.feed(b"\xff" * 40 + b"\x00\x00\xff\xff")


@each_stream
def test_text_has_no_place_in_a_stream(kind):
    with pytest.raises(GatewayProtocolError, match="text message"):
        open_inflater(kind).feed('{"op":11}')


@pytest.mark.parametrize("cut", [0, 1, 5, -1])
def test_a_payload_that_is_cut_short(cut):
    with pytest.raises(GatewayProtocolError):
        open_inflater("payload").feed(zlib.compress(HELLO)[:cut])


def test_a_payload_with_something_behind_it():
    with pytest.raises(GatewayProtocolError):
        open_inflater("payload").feed(zlib.compress(HELLO) + zlib.compress(HELLO))


def test_a_zlib_stream_does_not_end_before_the_connection():
    with pytest.raises(GatewayProtocolError, match="ended before"):
        open_inflater("zlib-stream").feed(zlib.compress(HELLO) + b"\x00\x00\xff\xff")


def test_a_zstd_stream_does_not_end_before_the_connection():
    with pytest.raises(GatewayProtocolError, match="ended before"):
        open_inflater("zstd-stream").feed(zstd.compress(HELLO))


def stopped(kind: str) -> bytes:
    """A whole stream that ends, in the form in which a message of the stream would come."""
    return zstd.compress(HELLO) if kind == "zstd-stream" else zlib.compress(HELLO) + b"\x00\x00\xff\xff"


@each_stream
@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param(lambda kind: "text", id="text"),
        pytest.param(lambda kind: b"\xff" * 40 + b"\x00\x00\xff\xff", id="garbage"),
        pytest.param(lambda kind: SERVERS[kind]()(b"a" * 1001), id="too large"),
        pytest.param(stopped, id="end"),
    ],
)
@pytest.mark.parametrize("after", [b"", b"\x00\x00\xff\xff", b"x"])
def test_after_an_error_a_stream_gives_only_errors(kind, breaks, after):
    inflater = open_inflater(kind, max_message=1000)
    with pytest.raises(GatewayProtocolError):
        inflater.feed(breaks(kind))
    for message in (after, SERVERS[kind]()(HELLO)):
        with pytest.raises(GatewayProtocolError, match="stream that is broken"):
            inflater.feed(message)


# The cap


@pytest.mark.parametrize("kind", [None, *SERVERS])
def test_the_cap_is_exact(kind):
    deflate = SERVERS[kind]() if kind else bytes
    inflater = open_inflater(kind, max_message=1000)
    assert inflater.feed(deflate(b"a" * 1000)) == b"a" * 1000
    with pytest.raises(GatewayProtocolError, match="more than 1000 bytes"):
        inflater.feed(deflate(b"a" * 1001))


@pytest.mark.parametrize("kind", [None, "payload"])
def test_the_cap_holds_for_text(kind):
    inflater = open_inflater(kind, max_message=10)
    assert inflater.feed("a" * 10) == "a" * 10
    with pytest.raises(GatewayProtocolError, match="more than 10 bytes"):
        inflater.feed("a" * 11)


@each_compression
def test_a_bomb_does_not_fill_the_memory(kind):
    bomb = SERVERS[kind]()(bytes(50_000_000))
    assert len(bomb) < 100_000
    inflater = open_inflater(kind, max_message=100_000)
    tracemalloc.start()
    try:
        with pytest.raises(GatewayProtocolError, match="more than 100000 bytes"):
            inflater.feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("window_log", "taken"), [(23, True), (24, False), (27, False)])
def test_a_zstd_stream_may_ask_for_a_window_of_8_mib_and_no_more(window_log, taken):
    """The window is allocated whatever the cap: a message of six kilobytes could fill 128 MiB."""
    parameter = zstd.CompressionParameter
    options = {parameter.window_log: window_log, parameter.strategy: 1, parameter.hash_log: 12}
    deflater = zstd.ZstdCompressor(options=options)
    message = deflater.compress(HELLO, deflater.FLUSH_BLOCK)
    if taken:
        assert open_inflater("zstd-stream").feed(message) == HELLO
    else:
        with pytest.raises(GatewayProtocolError, match="too much memory"):
            open_inflater("zstd-stream").feed(message)


@pytest.mark.parametrize("kind", [None, *SERVERS])
def test_by_default_megabytes_pass(kind):
    document = bytes(8 * 1024 * 1024)
    deflate = SERVERS[kind]() if kind else bytes
    assert len(document) < DEFAULT_MAX_MESSAGE
    assert open_inflater(kind).feed(deflate(document)) == document


# The optional package


@pytest.mark.parametrize("attempt", [require_zstd, lambda: open_inflater("zstd-stream")])
def test_without_a_zstd_binding_the_error_says_what_to_install(monkeypatch, attempt):
    for package in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"pip install 'trioshard\[zstd\]'") as missing:
        attempt()
    assert isinstance(missing.value, ImportError)


@pytest.mark.parametrize("kind", [None, "payload", "zlib-stream"])
def test_the_other_kinds_do_not_need_it(monkeypatch, kind):
    for package in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, package, None)
    open_inflater(kind)


def test_without_zlib_ng_pythons_own_zlib_inflates(monkeypatch):
    pytest.importorskip("zlib_ng")
    assert fastest_zlib().__name__ != "zlib"
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    assert fastest_zlib() is zlib
