"""What the plugin makes of a daemon's answer, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.document import write
from exporter.document.read import read, snapshot_of
from exporter.errors import ExporterError
from exporter.health import measures
from exporter.health.forecast import HORIZON
from exporter.health.judge import Health
from exporter.health.thresholds import DEFAULTS, Status
from exporter.sampling.sample import Sample
from exporter.snapshot import Snapshot, SysctlValue
from exporter.tcpstate import NO_SOCKETS
from tests.conftest import SITUATIONS, judge_situation, judged, sample_situation

URL = "http://127.0.0.1:19293/api/v1/snapshot"
TCP_MEM = SysctlValue("tcp_mem", (("min", 100), ("pressure", 200), ("max", 400)), None, "pages")
NOT_OURS = f"{URL}: not a daemon of tcp-exporter: "


def transported(snapshot: Snapshot) -> dict[str, object]:
    """Its document, as it arrives."""
    document: dict[str, object] = json.loads(write.encode(write.document(snapshot, judged(snapshot))))
    return document


def answered(**changes: object) -> bytes:
    """A daemon's answer with the numbers of ``busy``, with *changes*; a field that is to be ... is left out."""
    sample = Sample.single(sample_situation("busy"), judge_situation("busy"))
    document = write.sampled(sample._replace(stale_after=10.0, peaks=tuple(range(700, 712))), now=0.25) | changes
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


def complaint(body: bytes, status: int = 200, reason: str = "OK") -> str:
    with pytest.raises(ExporterError) as raised:
        read(URL, status, reason, body)
    return str(raised.value)


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_snapshot_comes_back_from_its_document(name: str) -> None:
    snapshot = sample_situation(name)
    back = snapshot_of(transported(snapshot))
    assert transported(back) == transported(snapshot)
    assert measures.readings(back) == measures.readings(snapshot)
    unknown = [name for name, reading in measures.readings(back).items() if reading is None]
    assert [measures.BY_NAME[it].unknown(back) for it in unknown] == [
        measures.BY_NAME[it].unknown(snapshot) for it in unknown
    ]
    assert (back.sysctls, back.sources, back.counters) == (snapshot.sysctls, snapshot.sources, snapshot.counters)


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_the_page_size_comes_back_from_the_memory_limits(page_size: int) -> None:
    snapshot = sample_situation("busy")
    snapshot = snapshot._replace(page_size=page_size, sysctls={**snapshot.sysctls, "tcp_mem": TCP_MEM})
    back = snapshot_of(transported(snapshot))
    assert (back.page_size, back.memory_limits) == (page_size, snapshot.memory_limits)
    assert transported(back) == transported(snapshot)


def concluded_from(health: Health) -> tuple[object, ...]:
    """What a reader of the document of *health* has of it."""
    sample = Sample.single(sample_situation("busy"), health)._replace(stale_after=10.0)
    told = read(URL, 200, "OK", write.encode(write.sampled(sample, now=0.0))).conclusions()
    return told.thresholds, told.judgements, told.not_judged


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_the_daemon_concluded_comes_back_from_its_document(name: str) -> None:
    health = judge_situation(name)
    assert concluded_from(health) == (DEFAULTS, health.judgements, health.not_judged)


def test_a_single_sample_comes_back_with_what_could_not_be_judged() -> None:
    health = judged(sample_situation("busy"))
    assert [it.status for it in health.judgements if it.status is Status.UNKNOWN] != []
    assert concluded_from(health) == (DEFAULTS, health.judgements, health.not_judged)


def test_a_daemon_from_before_there_was_health_tells_its_counts_and_no_findings() -> None:
    listener = {"address": "::", "port": 80, "fullest": 0.5}  # with fewer fields than today's
    detail = {"taken_at": 1700000000.0, "ephemeral_used": 5}
    changes = {"health": ..., "unmatched_half_open": ..., "listeners": [listener], "detail": detail}
    answer = read(URL, 200, "OK", answered(**changes))
    assert answer.values(["established", "total"], peak=False) == {"established": 656, "total": 728}
    with pytest.raises(ExporterError) as raised:
        answer.conclusions()
    assert str(raised.value) == f"{URL}: the daemon is older than this plugin and has no findings: upgrade the daemon"


def test_it_says_why_the_daemon_does_not_tell_a_measure() -> None:
    answer = read(URL, 200, "OK", answered(peaks=None))
    assert answer.reason("not_yet_invented", peak=False) == (
        "the daemon is older than this plugin and does not have it: upgrade the daemon"
    )
    assert answer.reason("listen", peak=True) == "the daemon has no peaks yet"
    assert answer.reason("memory_ratio", peak=True) == ""  # the snapshot tells why


def test_a_daemon_that_cannot_count_is_read_with_its_reason() -> None:
    sources = [{"source": "procfs", "up": False, "problem": "net/tcp: gone"}]
    answer = read(URL, 200, "OK", answered(connections=None, sources=sources))
    assert answer.values(["established"], peak=False) == {"established": None}
    assert measures.BY_NAME["established"].unknown(answer.snapshot) == "net/tcp: gone"


def test_the_peaks_are_judged_for_the_states_and_nothing_else() -> None:
    answer = read(URL, 200, "OK", answered())
    names = ("established", "closing", "total", "time_wait_ratio", "memory_ratio", "not_yet_invented")
    busy = {"total": 728, "time_wait_ratio": 12 / 131072, "memory_ratio": None, "not_yet_invented": None}
    assert answer.values(names, peak=False) == {"established": 656, "closing": 6, **busy}
    assert answer.values(names, peak=True) == {"established": 701, "closing": 711, **busy}
    assert read(URL, 200, "OK", answered(peaks=None)).values(["listen"], peak=True) == {"listen": None}


def test_it_says_who_was_asked_and_how_old_the_sample_is() -> None:
    answer = read(URL, 200, "OK", answered())
    assert answer.origin(peak=False) == f"read from the daemon at {URL}, 0.2 s old"
    assert answer.origin(peak=True) == f"read from the daemon at {URL}, 0.2 s old; the states are its peaks"


def health(**changes: object) -> dict[str, object]:
    return {"health": {"measures": [], "findings": [], "not_judged": []} | changes}


JUDGEMENT = {"finding": "x", "status": "OK", "reason": "", "found": None}
STATUSES = "OK, WARNING, CRITICAL, UNKNOWN"
NO_NAME = "measure is '{}', not a name of lower-case letters, digits and underscores"
BACKWARDS = "warning: '2:1' is not a range: its start 2 is above its end 1"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"stale": True, "age_seconds": 12.34}, f"{URL}: the daemon's sample is stale: 12.3 s old"),
        (
            {"api_version": 2},
            f"{URL}: the daemon is newer than this plugin (api_version 2, expected 1): upgrade the plugin",
        ),
        (
            {"api_version": 0},
            f"{URL}: the daemon is older than this plugin (api_version 0, expected 1): upgrade the daemon",
        ),
        ({"health": None}, NOT_OURS + "health is of type NoneType, not dict"),
        ({"health": {}}, NOT_OURS + "the answer has no measures"),
        (health(measures=[{"measure": "total", "warning": "2:1", "critical": None}]), NOT_OURS + BACKWARDS),
        (health(measures=[{"measure": "x=1 y", "warning": "2", "critical": None}]), NOT_OURS + NO_NAME.format("x=1 y")),
        (health(measures=[{"measure": "", "warning": "2", "critical": None}]), NOT_OURS + NO_NAME.format("")),
        ({"measures": [{"measure": "x|\x1b", "value": 1}]}, NOT_OURS + NO_NAME.format("x|\\x1b")),
        ({"measures": [{"measure": "x" * 65, "value": 1}]}, NOT_OURS + NO_NAME.format("x" * 40)),
        (health(findings=[JUDGEMENT | {"status": "BAD"}]), NOT_OURS + f"status is 'BAD', not one of {STATUSES}"),
        (
            health(findings=[JUDGEMENT | {"status": "WARNING"}]),
            NOT_OURS + "status is WARNING, which does not fit found",
        ),
        ({"api_version": True}, NOT_OURS + "api_version is of type bool, not int"),
        ({"api_version": ...}, NOT_OURS + "the answer has no api_version"),
        ({"stale": ...}, NOT_OURS + "the answer has no stale"),
        ({"peaks": ...}, NOT_OURS + "the answer has no peaks"),
        ({"peaks": {"established": 1}}, NOT_OURS + "the answer has no syn_sent"),
        ({"measures": [7]}, NOT_OURS + "measures is of type int, not dict"),
        ({"measures": [{"measure": "total", "value": float("nan")}]}, NOT_OURS + "value is no number that can be"),
        ({"measures": [{"measure": "total", "value": "9"}]}, NOT_OURS + "value is of type str, not int"),
        ({"sysctls": {"tcp_mem": 1}}, NOT_OURS + "tcp_mem is of type int, not dict"),
        ({"connections": {"established": 10**400}}, NOT_OURS + "established is no number that can be"),
    ],
)
def test_a_document_that_cannot_be_judged_is_refused_with_the_reason(changes: dict[str, object], line: str) -> None:
    assert complaint(answered(**changes)) == line


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"<html>", NOT_OURS + "the answer is not JSON"),
        (b"", NOT_OURS + "the answer is not JSON"),
        (b"\xff\xfe\xfd", NOT_OURS + "the answer is not JSON"),
        (b"[" * 100_000, NOT_OURS + "the answer is not JSON"),
        (b'{"api_version": %b}' % (b"1" * 1000), NOT_OURS + "the answer is not JSON"),
        (b"[]", NOT_OURS + "the answer is list, not an object"),
        (b"{}", NOT_OURS + "the answer has no api_version"),
        (b" " * (16 * 2**20 + 1), NOT_OURS + "the answer has more than 4 MiB"),
    ],
)
def test_what_is_no_document_is_refused(body: bytes, line: str) -> None:
    assert complaint(body) == line


LISTENER = {
    "address": "::",
    "port": 80,
    "sockets": 1,
    "accept_queue": 0,
    "accept_limit": 9,
    "syn_recv": 1,
    "fullest_queue": 0,
    "fullest_limit": 9,
    "device": "",
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sockets": 0, "accept_limit": 0}, NOT_OURS + "sockets is 0, not at least 1"),
        ({"accept_limit": -1}, NOT_OURS + "accept_limit is -1, not at least 0"),
        ({"fullest_limit": -1}, NOT_OURS + "fullest_limit is -1, not at least 0"),
    ],
)
def test_a_listener_that_nothing_could_be_divided_by_is_refused(changes: dict[str, int], line: str) -> None:
    assert complaint(answered(listeners=[LISTENER | changes])) == line


def test_a_status_other_than_200_is_quoted_with_the_daemons_error() -> None:
    before = json.dumps({"api_version": 1, "error": "no sample yet"}).encode()
    assert complaint(before, 503, "Service Unavailable") == f"{URL}: answered 503 Service Unavailable: no sample yet"
    assert complaint(b"<html>", 302, "Found") == f"{URL}: answered 302 Found"
    assert complaint(answered(), 404, "") == f"{URL}: answered 404"
    assert complaint(b'{"error": [[]]}', 503, "Busy") == f"{URL}: answered 503 Busy"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
FIELDS = sorted(json.loads(answered()))


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
def test_any_json_is_read_or_refused(changes: dict[str, object]) -> None:
    try:
        answer = read(URL, 200, "OK", json.dumps(json.loads(BUSY) | changes).encode())
    except ExporterError as error:
        assert str(error).startswith(f"{URL}: ")
    else:
        assert answer.counts is None or len(answer.counts) == len(NO_SOCKETS)


BUSY = answered()


WRONG: tuple[object, ...] = (
    None,
    "x",
    -1,
    -1.5,
    float("nan"),
    float("inf"),
    10**40,
    1e300,
    True,
    [],
    {},
    [[]],
    {"a": []},
)
SIGNED = {"taken_at", "counters", "fields", "live"}
"""What may be below 0: a clock before 1970, Tcp.MaxConn, sysctls."""


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a document; of a list, those in its first two items."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(document: object, path: tuple[str | int, ...], value: object) -> object:
    """A copy of *document* that has *value* at *path*."""
    if not path:
        return value
    copy = document.copy()  # type: ignore[attr-defined]  # a dict or a list: it has a path below itself
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def is_one_of(old: object, other: object, path: tuple[str | int, ...]) -> bool:
    """Whether *other* is a value that the field at *path* can have, which is *old* now."""
    if isinstance(other, (int, float)) and not isinstance(other, bool):
        return bool(SIGNED & {*path}) and abs(other) < 1e30
    return other is None or type(other) is type(old) or (old is None and other in ("x", [], {}))


def test_no_field_of_a_wrong_type_or_value_is_taken_for_an_answer() -> None:
    """It is refused, or was never read; null is unknown."""
    sample = Sample.single(sample_situation("syn-flood"), judge_situation("syn-flood"))._replace(stale_after=10.0)
    document = json.loads(write.encode(write.sampled(sample, now=0.25)))
    expected = read(URL, 200, "OK", json.dumps(document).encode())
    taken = []
    for path in places(document):
        old: object = document
        for key in path:
            old = old[key]  # type: ignore[index]  # as in changed
        for wrong in WRONG:
            if is_one_of(old, wrong, path):
                continue
            try:
                answer = read(URL, 200, "OK", json.dumps(changed(document, path, wrong)).encode())
            except ExporterError as error:
                assert str(error).startswith(f"{URL}: ")
            else:
                if answer != expected:
                    taken.append((path, wrong))
    assert taken == []


def test_when_limits_are_full_comes_back_and_of_an_old_daemon_nothing() -> None:
    snapshot = sample_situation("busy")._replace(to_full={"conntrack": 7200, "memory": HORIZON})
    assert transported(snapshot)["seconds_to_full"] == {"conntrack": 7200, "memory": None}
    assert snapshot_of(transported(snapshot)).to_full == snapshot.to_full
    assert read(URL, 200, "OK", answered(seconds_to_full=...)).snapshot.to_full is None
    with pytest.raises(ExporterError, match="conntrack is -1, not at least 0"):
        read(URL, 200, "OK", answered(seconds_to_full={"conntrack": -1}))
