"""The caches of the endpoints: once for a key, in both codings, and nothing of another key."""

from __future__ import annotations

import gzip
import zlib

import pytest

from exporter.web.rendered import Around, RenderedAround, RenderedOnce


class Rendering:
    """Renders ``answer``, and counts how often."""

    def __init__(self) -> None:
        self.answer = b"one"
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.answer


def test_an_answer_is_rendered_once_for_all_who_ask_in_either_coding() -> None:
    kept, render = RenderedOnce(), Rendering()
    packed = kept.body("key", render, compressed=True)
    plain = kept.body("key", render, compressed=False)
    assert kept.body("key", render, compressed=True) is packed
    assert kept.body("key", render, compressed=False) is plain
    assert (plain, gzip.decompress(packed), render.times) == (b"one", b"one", 1)


def test_another_key_is_another_answer_in_both_codings() -> None:
    kept, render = RenderedOnce(), Rendering()
    for compressed in (False, True):
        kept.body("key", render, compressed=compressed)
    render.answer = b"two"
    assert gzip.decompress(kept.body("other", render, compressed=True)) == b"two"
    assert kept.body("other", render, compressed=False) == b"two"
    assert render.times == 2


def test_none_is_a_key_like_any_other() -> None:
    kept, render = RenderedOnce(), Rendering()
    assert kept.body(None, render, compressed=False) is kept.body(None, render, compressed=False)
    assert render.times == 1


@pytest.mark.parametrize("before", [b"", b"{" + b"ab" * 100_000, bytes(range(256)) * 300])
@pytest.mark.parametrize("after", [b"", b"}", b"ab" * 70_000])
@pytest.mark.parametrize("middle", [b"", b"0.1", b"x" * 0xFFFF])
def test_a_body_around_its_middle_is_one_gzip_member_of_the_plain_one(
    before: bytes, after: bytes, middle: bytes
) -> None:
    around = Around(before, after)
    plain = around.plain(middle)
    packed = around.gzip(plain)
    inflated = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert (plain, inflated.decompress(packed), inflated.eof, inflated.unused_data) == (
        before + middle + after, plain, True, b"",
    )  # fmt: skip


def test_an_answer_is_rendered_once_around_a_middle_of_each_moment() -> None:
    kept, rendered = RenderedAround(), []

    def render() -> Around:
        rendered.append(1)
        return Around(b"<", b">")

    def body(key: str, moment: int, *, compressed: bool) -> bytes:
        return kept.body(key, render, moment, lambda: str(moment).encode(), compressed=compressed)

    first = body("key", 1, compressed=False)
    assert body("key", 1, compressed=False) is first
    assert body("key", 1, compressed=True) is body("key", 1, compressed=True)
    assert [first, body("key", 2, compressed=False), gzip.decompress(body("key", 3, compressed=True))] == [
        b"<1>", b"<2>", b"<3>",
    ]  # fmt: skip
    assert len(rendered) == 1
    body("other", 3, compressed=True)
    assert len(rendered) == 2
