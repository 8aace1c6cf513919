"""From families to the bytes of a page: text 0.0.4 or OpenMetrics 1.0.0. ``web.rendered`` keeps and compresses them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import exposition as text
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.prometheus.families import View, families, sysctls
from exporter.prometheus.formats import Format
from exporter.sampling.sample import Sample

_END = b"# EOF\n"


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


class Exposition:
    """Renders pages, and keeps the part with the sysctls, which seldom changes, from one sample to the next."""

    def __init__(self) -> None:
        self._sysctls: dict[Format, tuple[object, object, object, bytes]] = {}

    def page(self, sample: Sample | None, view: View, form: Format) -> bytes:
        """The page of *sample* as seen by *view*, in *form*."""
        parts = [render(families(sample, view), form)]
        if sample is not None and not view.stale:
            verdicts = sample.health.verdicts
            kept, judged, exported, part = self._sysctls.get(form, (None, None, None, b""))
            if kept is not sample.snapshot.sysctls or judged is not verdicts or exported != view.exported:
                part = render(sysctls(sample.snapshot, verdicts, view.exported), form)
                self._sysctls[form] = (sample.snapshot.sysctls, verdicts, view.exported, part)
            parts.append(part)
        return b"".join(parts if form is Format.TEXT else [*parts, _END])


def page(sample: Sample | None, view: View, form: Format) -> bytes:
    """One page, of a sample whose page is rendered only once."""
    return Exposition().page(sample, view, form)
