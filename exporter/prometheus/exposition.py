"""From families to the bytes of a page: text 0.0.4 or OpenMetrics 1.0.0, plain or gzip, each made once a sample."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

from prometheus_client import exposition as text
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.prometheus.families import View, families, sysctls
from exporter.prometheus.formats import Format
from exporter.sampling.sample import Sample

_END = b"# EOF\n"
_GZIP_LEVEL = 1  # a tenth of the time of level 9 for a few kilobytes more


class _Families:
    """As much of a registry as prometheus_client's writers ask for."""

    def __init__(self, collected: Iterable[Metric]) -> None:
        self._collected = collected

    def collect(self) -> Iterable[Metric]:
        return self._collected


def render(collected: Iterable[Metric], form: Format) -> bytes:
    """The families in *form*; OpenMetrics without its end mark, so that parts can be joined."""
    if form is Format.TEXT:
        return text.generate_latest(_Families(collected), "underscores")
    page = openmetrics.generate_latest(_Families(collected), "underscores")  # type: ignore[no-untyped-call]  # untyped
    return bytes(page.removesuffix(_END))


class Pages:
    """Makes each page once and hands the same bytes to everyone who asks for it while it is current."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._sample: Sample | None = None  # held, so that its id stays its own
        self._pages: dict[tuple[Format, bool], bytes] = {}
        self._sysctls: dict[Format, tuple[object, object, bytes]] = {}

    def page(self, sample: Sample | None, view: View, form: Format, *, compressed: bool) -> bytes:
        """The page of *sample* as seen by *view*."""
        key = (id(sample), *view)
        if key != self._key:
            self._key = key
            self._sample = sample
            self._pages = {}
        if (form, compressed) not in self._pages:
            if compressed:
                plain = self.page(sample, view, form, compressed=False)
                self._pages[form, True] = gzip.compress(plain, _GZIP_LEVEL, mtime=0)
            else:
                self._pages[form, False] = self._render(sample, view, form)
        return self._pages[form, compressed]

    def _render(self, sample: Sample | None, view: View, form: Format) -> bytes:
        parts = [render(families(sample, view), form)]
        if sample is not None and not view.stale:
            verdicts = sample.health.verdicts
            kept, judged, part = self._sysctls.get(form, (None, None, b""))
            if kept is not sample.snapshot.sysctls or judged is not verdicts:
                part = render(sysctls(sample.snapshot, verdicts), form)
                self._sysctls[form] = (sample.snapshot.sysctls, verdicts, part)
            parts.append(part)
        return b"".join(parts if form is Format.TEXT else [*parts, _END])


def page(sample: Sample | None, view: View, form: Format) -> bytes:
    """One page, of a sample that nobody will ask for again."""
    return Pages().page(sample, view, form, compressed=False)
