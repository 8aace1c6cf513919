"""What was highest on a host, or a fleet: from the hour of a running daemon, or from a Prometheus that scrapes them.

``commands.advise`` asks, ``health.proposal`` makes thresholds of the answer. Which of the two a URL is shows in what it
answers: a daemon has ``/api/v1/snapshot``, a Prometheus ``/api/v1/query``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from exporter import __version__, client
from exporter.document import read
from exporter.errors import SourceError
from exporter.health.measures import RATIOS, syn_queue_limit
from exporter.health.proposal import Observed, Peak, highest
from exporter.printable import shortened
from exporter.snapshot import Snapshot
from exporter.tcpstate import BY_LABEL

if TYPE_CHECKING:
    from typing import TypeGuard

DAYS = 7
_STATES = f"max by (instance, state) (max_over_time(tcp_connections_peak[{DAYS}d]))"
_RATIOS = f"max by (instance, resource) (max_over_time(tcp_saturation_ratio[{DAYS}d]))"
_LIMITS = 'min by (instance) (tcp_sysctl_value{name="tcp_max_tw_buckets"})'
_LONGEST_STEP = 3600.0
_LONGEST_LABEL = 1000  # characters
_ABSURD = 1e30  # also of what is no number: NaN and Infinity
_SINCE = f'time() - min(min_over_time(timestamp(tcp_connections{{state="established"}})[{DAYS}d:5m]))'


def observe(url: str, access: client.Access) -> Observed:
    """What the daemon or the Prometheus at *url* has; ``SourceError`` where it is neither, or has nothing."""
    base = url.rstrip("/")
    status, reason, body = _get(f"{base}/api/v1/snapshot", access)
    if status == 404:
        return _of_prometheus(base, access)
    answer = read.read(f"{base}/api/v1/snapshot", status, reason, body)
    return _of_daemon(base, answer, _json(f"{base}/api/v1/history", access))


def _get(url: str, access: client.Access) -> tuple[int, str, bytes]:
    headers = {"Accept": "application/json", "User-Agent": f"tcp-exporter/{__version__}"}
    return client.get(url, access, headers, read.MAX_BODY + 1, proxies=True)


def _json(url: str, access: client.Access) -> Mapping[str, object]:
    status, reason, body = _get(url, access)
    try:
        answer = read.parsed(body[: read.MAX_BODY])
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise SourceError(url, f"answered {status}: {shortened(answer['error'], read.LONGEST)}")
    if status != 200 or not isinstance(answer, dict):
        said = f"{status} {shortened(reason, read.LONGEST)}".strip()
        raise SourceError(url, f"answered {said}, and not with the JSON that was asked for")
    return answer


# -- a daemon ----------------------------------------------------------------------------------------------------------


def _of_daemon(url: str, answer: read.Answer, history: Mapping[str, object]) -> Observed:
    series, step = history.get("states"), history.get("step_seconds")
    if not isinstance(series, dict) or not _is_number(step) or not 0 < step <= _LONGEST_STEP:
        raise SourceError(f"{url}/api/v1/history", "not the history of a daemon of tcp-exporter")
    states, limits, points = {}, _limits(answer.snapshot), 0
    for label, state in BY_LABEL.items():
        found = series.get(label)
        most = found.get("max") if isinstance(found, dict) else None
        hour = [it for it in most if _is_number(it) and it >= 0] if isinstance(most, list) else []
        points = max(points, len(hour))
        newest: list[float] = [counts[state] for counts in (answer.counts, answer.peaks) if counts is not None]
        if hour or newest:
            states[label] = Peak(max(hour + newest), "", *limits.get(label, (None, "")))
    if not states:
        raise SourceError(url, "the daemon cannot count, so it has no peaks")
    ratios = {ratio.name: Peak(value) for ratio in RATIOS if (value := answer.measures.get(ratio.name)) is not None}
    return Observed(f"the daemon at {url}", points * step, states, ratios, "at this moment")


def _limits(snapshot: Snapshot) -> dict[str, tuple[int, str]]:
    """The limits that states have, and what sets them."""
    found = {}
    most = snapshot.scalar("tcp_max_tw_buckets")
    if most is not None and most > 0:
        found["time_wait"] = most, "tcp_max_tw_buckets"
    if snapshot.listeners:
        total = sum(syn_queue_limit(snapshot, it) for it in snapshot.listeners)
        found["syn_recv"] = total, "the SYN queues' total"
    return found


# -- a Prometheus ------------------------------------------------------------------------------------------------------


def _of_prometheus(url: str, access: client.Access) -> Observed:
    try:
        states = _query(url, access, _STATES)
    except SourceError as error:
        reason = (
            f"neither a daemon of tcp-exporter, whose /api/v1/snapshot it has not, nor a Prometheus: {error.reason}"
        )
        raise SourceError(url, reason) from None
    if not states:
        raise SourceError(url, f"this Prometheus has no tcp_connections_peak of the last {DAYS} days")
    ratios, since = _query(url, access, _RATIOS), _query(url, access, _SINCE)
    buckets = {labels.get("instance", ""): int(value) for labels, value in _query(url, access, _LIMITS)}
    instances = {labels.get("instance", "") for labels, _ in states}

    def peak(labels: Mapping[str, str], value: float) -> Peak:
        instance = labels.get("instance", "")
        most = buckets.get(instance) if labels.get("state") == "time_wait" else None
        limit = most if most is not None and most > 0 else None
        return Peak(value, instance if len(instances) > 1 else "", limit, "tcp_max_tw_buckets")

    def of(found: Sequence[tuple[Mapping[str, str], float]], label: str, name: str) -> Peak | None:
        return highest([peak(labels, value) for labels, value in found if labels.get(label) == name])

    hosts = f"{len(instances)} hosts" if len(instances) > 1 else next(iter(instances))
    return Observed(
        f"the Prometheus at {url}, which scrapes {hosts}",
        min(since[0][1] if since else 0.0, DAYS * 86400.0),
        {label: it for label in BY_LABEL if (it := of(states, "state", label)) is not None},
        {
            ratio.name: it
            for ratio in RATIOS
            if (it := of(ratios, "resource", ratio.name.removesuffix("_ratio"))) is not None
        },
        "in that time",
    )


def _query(url: str, access: client.Access, query: str) -> list[tuple[Mapping[str, str], float]]:
    """The labels and values of an instant query."""
    asked = f"{url}/api/v1/query?query={quote(query)}"
    answer = _json(asked, access)
    data = answer.get("data")
    try:
        if answer.get("status") == "success" and isinstance(data, dict):
            found = [({**it["metric"]}, float(it["value"][1])) for it in data["result"]]
            if all(_are_texts(labels) for labels, _ in found):
                return [(labels, value) for labels, value in found if 0 <= value < _ABSURD]  # NaN is below nothing
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        pass
    raise SourceError(f"{url}/api/v1/query", "not an answer of a Prometheus")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _ABSURD


def _are_texts(labels: Mapping[object, object]) -> bool:
    return all(isinstance(it, str) and len(it) <= _LONGEST_LABEL for it in labels.values())
