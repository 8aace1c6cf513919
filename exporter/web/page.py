"""The page at ``/``: what is here, how the host is, and where the metrics are. Plain HTML that works offline.

Everything from the host is escaped, and the Content-Security-Policy allows nothing but the page's own style.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from exporter import __version__, measures
from exporter.snapshot import Sample
from exporter.tcpstate import KNOWN_STATES
from exporter.thresholds import NO_THRESHOLD, Threshold, evaluate

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:50rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8884;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.WARNING,.UNKNOWN{background:#fa04}.CRITICAL{background:#f006}
"""


def render(sample: Sample | None, thresholds: Mapping[str, Threshold], telemetry_path: str, *, stale: bool) -> bytes:
    """The page for *sample*; a stale one is not shown."""
    if sample is None:
        body = "<p>No sample yet.</p>"
    elif stale:
        body = "<p class=CRITICAL>The last sample is too old to be shown: the polling loop hangs or has died.</p>"
    elif sample.snapshot.connections is None:
        body = "<p class=CRITICAL>No reader can count the sockets of this host.</p>"
    else:
        body = _table(sample, thresholds)
    problems = "" if sample is None else _problems(sample.snapshot.sources)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>TCP exporter</title><style>{_STYLE}</style></head><body>
<h1>TCP exporter</h1>
<p>TCP sockets of this host by state. Version {escape(__version__)}.</p>
{body}{problems}
<ul>
<li><a href="{escape(telemetry_path)}">Metrics</a> for Prometheus</li>
<li><a href="/api/v1/snapshot">The sample as JSON</a></li>
<li><a href="/-/healthy">Healthy?</a> <a href="/-/ready">Ready?</a></li>
</ul>
</body></html>
""".encode()


def _table(sample: Sample, thresholds: Mapping[str, Threshold]) -> str:
    rows = []
    results = {
        result.measure: result for result in evaluate(measures.read(sample.snapshot, measures.STATES), thresholds)
    }
    for state in KNOWN_STATES:
        result = results[state.label]
        peak = "" if sample.peaks is None else str(sample.peaks[state])
        warning, critical = thresholds.get(state.label, NO_THRESHOLD)
        limits = ", ".join(
            f"{name} {escape(limit.text)}" for name, limit in (("warning", warning), ("critical", critical)) if limit
        )
        rows.append(
            f"<tr class={result.status.name}><th scope=row>{escape(state.rfc9293)}</th>"
            f"<td class=n>{result.value:.0f}</td><td class=n>{peak}</td>"
            f"<td>{limits}</td><td>{escape(state.meaning)}</td></tr>"
        )
    return (
        "<table><thead><tr><th scope=col>State</th><th scope=col>Sockets</th><th scope=col>Peak</th>"
        "<th scope=col>Thresholds</th><th scope=col>Meaning</th></tr></thead><tbody>"
        + "\n".join(rows)
        + "</tbody></table>"
    )


def _problems(sources: Mapping[str, str | None]) -> str:
    broken = [f"<li>{escape(source)}: {escape(problem)}</li>" for source, problem in sources.items() if problem]
    return f"<h2>Sources that could not be read</h2><ul>{''.join(broken)}</ul>" if broken else ""
