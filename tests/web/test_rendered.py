"""The cache of the endpoints: once for a key, in both codings, and nothing of another key."""

from __future__ import annotations

import gzip

from exporter.web.rendered import RenderedOnce


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
