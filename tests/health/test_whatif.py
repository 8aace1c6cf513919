"""What other values of sysctls would change: in time, in limits, in findings; and what they would not."""

from __future__ import annotations

import ast
from pathlib import Path

from exporter.config.assignments import assignments
from exporter.health import whatif
from exporter.health.measures import Reading
from exporter.health.sysctls.used import exported
from exporter.health.thresholds import Status
from exporter.health.whatif import Meaning, Outcome, Shift, Turn, outcome
from exporter.health.window import Window
from exporter.kernel.catalogue import CATALOGUE
from exporter.snapshot import Listener, Snapshot, SysctlValue
from tests.conftest import judged, sample_situation
from tests.test_docs import DETAIL

QUIET = sample_situation("quiet")._replace(detail=None)
HEALTH = Path(whatif.__file__).parent


def changed(snapshot: Snapshot, text: str) -> Outcome:
    return outcome(Window(snapshot), assignments(text, snapshot.sysctls), lambda it: judged(it.now, *it.past))


def test_the_arithmetic_is_that_of_the_profile_with_the_hosts_other_numbers() -> None:
    assert changed(QUIET, "tcp_syn_retries=3,tcp_syn_linear_timeouts=0").meanings == (
        Meaning(
            "tcp_syn_retries", "connect() gives up after 131 s and 11 SYNs", "connect() gives up after 15 s and 4 SYNs"
        ),
    )


def test_a_sysctl_that_nobody_named_may_come_to_something_else() -> None:
    titles = [it.title for it in changed(QUIET, "tcp_keepalive_probes=2").meanings]
    assert titles == ["tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes"]


def test_the_share_of_a_limit_changes_and_with_it_finding_and_status() -> None:
    assert QUIET.sockstat is not None
    busy = QUIET._replace(sockstat=QUIET.sockstat._replace(tw=950))
    found = changed(busy, "tcp_max_tw_buckets=1000")
    most = busy.scalar("tcp_max_tw_buckets")
    assert found.shifts == (Shift("time_wait_ratio", Reading(950, most), Reading(950, 1000), Status.OK, Status.OK),)
    assert found.turns == (Turn("time_wait_near_limit", Status.OK, Status.WARNING, "TIME-WAIT is near its limit"),)
    assert (found.status_before, found.status_after) == (judged(busy).status, Status.WARNING)


def test_the_value_of_now_changes_nothing() -> None:
    found = changed(QUIET, f"tcp_fin_timeout={QUIET.scalar('tcp_fin_timeout')}")
    assert (found.meanings, found.shifts, found.turns, found.effects[0].risk) == ((), (), (), "")


def test_the_risk_is_that_of_the_direction() -> None:
    lower, higher = changed(QUIET, "tcp_retries2=8").effects, changed(QUIET, "tcp_retries2=16").effects
    assert lower[0].risk == "A lower value ends connections over outages that they would survive."
    assert higher[0].risk.startswith("A higher value lets an application wait for longer for a dead peer")


def test_a_sysctl_without_arithmetic_is_not_computed() -> None:
    (effect,) = changed(QUIET, "tcp_slow_start_after_idle=0").effects
    assert (effect.computed, effect.meaning) == (False, CATALOGUE["tcp_slow_start_after_idle"].meaning)


def test_somaxconn_acts_on_the_listeners_at_their_restart() -> None:
    def listener(port: int, limit: int, queue: int = 0) -> Listener:
        return Listener("0.0.0.0", port, 1, queue, limit, 0, queue, limit)

    snapshot = QUIET._replace(
        listeners=(listener(80, 4096, 100), listener(22, 128)),
        sysctls={**QUIET.sysctls, "net.core.somaxconn": SysctlValue("net.core.somaxconn", (("", 4096),), None, "")},
    )
    then = whatif.replaced(snapshot, assignments("net.core.somaxconn=99", snapshot.sysctls))
    assert then.listeners == (listener(80, 99, 100), listener(22, 99))
    assert changed(snapshot, "net.core.somaxconn=8192").effects[0].acts_on[-1] == (
        "1 of 2 listeners are at the present cap and may get more when they are restarted"
    )


def test_another_range_of_ports_is_another_limit() -> None:
    detail = DETAIL._replace(ephemeral_used=100, ephemeral_available=28232)
    snapshot = QUIET._replace(detail=detail)
    (shift,) = changed(snapshot, "net.ipv4.ip_local_port_range=1024 65535").shifts
    assert (shift.measure, shift.before, shift.after) == (
        "ephemeral_ports_ratio",
        Reading(100, 28232, detail.ephemeral_towards),
        Reading(100, 64512, detail.ephemeral_towards),
    )


def test_reuse_of_time_wait_frees_its_ports_and_its_end_takes_them() -> None:
    detail = DETAIL._replace(ephemeral_used=100, ephemeral_waiting=60, ephemeral_reusable=0)
    freed = whatif.replaced(QUIET._replace(detail=detail), assignments("tcp_tw_reuse=1", QUIET.sysctls))
    assert freed.detail is not None
    assert (freed.detail.ephemeral_used, freed.detail.ephemeral_reusable) == (40, 60)
    taken = whatif.replaced(freed, assignments("tcp_tw_reuse=0", QUIET.sysctls))
    assert taken.detail is not None
    assert (taken.detail.ephemeral_used, taken.detail.ephemeral_waiting) == (100, 60)


def test_the_series_of_used_are_those_of_everything_that_judges() -> None:
    used = exported("used", ())
    assert used is not None
    read = {
        node.value
        for path in HEALTH.rglob("*.py")
        if path.name not in {"whatif.py", "verdicts.py"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in CATALOGUE
    }
    assert read - used == set()
