"""What a sysctl's value comes to in time, as the kernel computes it: ``tcp_syn_retries = 6`` is 127 s, or 131 s.

Pure numbers; ``profile`` says which function is whose. Each follows the kernel's code, and the table that was measured
and read in it is what the tests hold against it. An initial timeout of 1 s is assumed: kernels before 3.1 had 3 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

RTO_INITIAL, RTO_MIN, RTO_MAX = 1.0, 0.2, 120.0  # seconds: include/net/tcp.h
TIMEWAIT_SECONDS = 60  # include/net/tcp.h: TCP_TIMEWAIT_LEN; no sysctl of a mainline kernel changes it
MAX_RETRIES = 255  # the kernel takes no more of any of them
ORPHAN_RETRIES = 8  # net/ipv4/tcp_timer.c: tcp_orphan_retries, what 0 stands for

Live = Mapping[tuple[str, str], int]
"""The numbers of a host, by sysctl and field."""


def syn_sent(retries: int, linear: int = 0, rto_max: float = RTO_MAX) -> tuple[float, int]:
    """Seconds until connect() gives up with ETIMEDOUT, and the SYNs sent until then.

    The timer fires after *linear* more times at a second's distance, then at doubling ones; it gives up when it has
    sent enough, or when the time is over that *retries* alone would have taken (net/ipv4/tcp_timer.c).

    >>> syn_sent(6), syn_sent(6, linear=4), syn_sent(2), syn_sent(2, linear=4)
    ((127.0, 7), (131.0, 11), (7.0, 3), (7.0, 6))
    """
    limit = backed_off(retries, RTO_INITIAL, rto_max)
    for sent, elapsed in enumerate(_timer(linear, rto_max)):
        if sent >= retries + linear or elapsed >= limit:
            return elapsed, sent + 1
    raise AssertionError("unreachable")


def syn_received(retries: int, rto_max: float = RTO_MAX) -> float:
    """Seconds until a half-open connection is dropped.

    >>> [syn_received(retries) for retries in (0, 2, 5)]
    [1.0, 7.0, 63.0]
    """
    return backed_off(retries, RTO_INITIAL, rto_max)


def keepalive(time: int, probes: int, interval: int) -> int:
    """Seconds until an idle connection whose peer is dead is found dead.

    >>> keepalive(7200, 9, 75)
    7875
    """
    return time + probes * interval


def unacknowledged(retries: int, rto_max: float = RTO_MAX) -> float:
    """Seconds after which the next timeout gives up a connection whose data nobody acknowledges.

    >>> [unacknowledged(retries) for retries in (3, 8, 15)]
    [3.0, 102.2, 924.6]
    """
    return backed_off(retries, RTO_MIN, rto_max)


def orphaned(retries: int, rto_max: float = RTO_MAX) -> float:
    """Seconds after which the next timeout gives up a socket that no process holds; 0 retries stand for 8."""
    return unacknowledged(retries or ORPHAN_RETRIES, rto_max)


def fin_wait2(timeout: int) -> int:
    """Seconds that FIN-WAIT-2 lasts after close(): above 60 the kernel waits for the excess, and once more.

    >>> [fin_wait2(timeout) for timeout in (30, 60, 61, 90)]
    [30, 60, 2, 60]
    """
    return timeout if timeout <= TIMEWAIT_SECONDS else 2 * (timeout - TIMEWAIT_SECONDS)


def backed_off(retries: int, base: float, rto_max: float) -> float:
    """Seconds that *retries* timeouts of *base* take, each double the one before (``tcp_model_timeout``)."""
    doublings = int(rto_max / base).bit_length() - 1
    if retries <= doublings:
        return round(((2 << retries) - 1) * base, 3)
    return round(((2 << doublings) - 1) * base + (retries - doublings) * rto_max, 3)


def _timer(linear: int, rto_max: float) -> Iterator[float]:
    """The seconds at which the SYN's timer fires."""
    elapsed, timeout, fired = 0.0, RTO_INITIAL, 0
    while True:
        elapsed += timeout
        yield elapsed
        fired += 1
        if fired > linear:
            timeout = min(timeout * 2, rto_max)


_IMPOSSIBLE = "no kernel takes such a number of retries"


# -- the same for a person, from the numbers of a host -----------------------------------------------------------------


def say_syn_retries(value: int, live: Live) -> str:
    """What ``tcp_syn_retries`` comes to; the linear timeouts are those of the host, none where it has no such file."""
    if not 0 <= value <= MAX_RETRIES:
        return _IMPOSSIBLE
    linear = min(max(live.get(("tcp_syn_linear_timeouts", ""), 0), 0), MAX_RETRIES)
    seconds, sent = syn_sent(value, linear, _rto_max(live))
    return f"connect() gives up after {seconds:g} s and {sent} SYNs"


def say_max_syn_backlog(value: int, live: Live) -> str:
    """What ``tcp_max_syn_backlog`` comes to; source: net/ipv4/tcp_input.c, tcp_conn_request."""
    if live.get(("tcp_syncookies", "")) != 0:
        return "no limit while cookies are on"
    return f"a listener holds at most {value - (value >> 2) + 1} half-open connections while cookies are off"


def say_somaxconn(value: int, _: Live) -> str:
    """What ``net.core.somaxconn`` comes to; source: include/net/sock.h, sk_acceptq_is_full."""
    return f"a listener that asks for as much holds {value + 1} connections that wait for accept()"


def say_synack_retries(value: int, live: Live) -> str:
    """What ``tcp_synack_retries`` comes to."""
    if not 0 <= value <= MAX_RETRIES:
        return _IMPOSSIBLE
    return f"a half-open connection is dropped after {syn_received(value, _rto_max(live)):g} s"


def say_retries2(value: int, live: Live) -> str:
    """What ``tcp_retries2`` comes to."""
    if not 0 <= value <= MAX_RETRIES:
        return _IMPOSSIBLE
    return (
        f"unacknowledged data ends a connection at the first timeout after {unacknowledged(value, _rto_max(live)):g} s"
    )


def say_orphan_retries(value: int, live: Live) -> str:
    """What ``tcp_orphan_retries`` comes to."""
    if not 0 <= value <= MAX_RETRIES:
        return _IMPOSSIBLE
    acts, seconds = f"acts as {ORPHAN_RETRIES}: " if value == 0 else "", orphaned(value, _rto_max(live))
    return f"{acts}a closed socket whose FIN nobody answers ends at the first timeout after {seconds:g} s"


def say_fin_timeout(value: int, _: Live) -> str:
    """What ``tcp_fin_timeout`` comes to. Source: include/net/tcp.h, tcp_fin_time; measured on 6.18: 0 is 1.95 s."""
    if value <= 0:
        return "FIN-WAIT-2 after close() ends after 3.5 times the retransmission timeout: 0.7 s or more"
    sum_of_it = f"2 * ({value} - {TIMEWAIT_SECONDS}) = " if value > TIMEWAIT_SECONDS else ""
    return f"FIN-WAIT-2 after close() lasts {sum_of_it}{fin_wait2(value)} s, TIME-WAIT always {TIMEWAIT_SECONDS} s"


def say_keepalive(value: int, live: Live) -> str:
    """What ``tcp_keepalive_time`` comes to, with the host's number of probes and their distance."""
    probes, interval = live.get(("tcp_keepalive_probes", "")), live.get(("tcp_keepalive_intvl", ""))
    if probes is None or interval is None:
        return f"the first probe after {value} s of silence"
    total = keepalive(value, probes, interval)
    return f"a dead peer of an idle connection is found after {value} + {probes} * {interval} = {total} s"


def say_keepalive_probes(value: int, live: Live) -> str:
    """What ``tcp_keepalive_probes`` comes to, with the host's distance between probes."""
    interval = live.get(("tcp_keepalive_intvl", ""))
    if interval is None:
        return f"{value} unanswered probes end a connection"
    return f"a connection ends after {value * interval} s of unanswered probes"


def say_keepalive_interval(value: int, live: Live) -> str:
    """What ``tcp_keepalive_intvl`` comes to, with the host's number of probes."""
    probes = live.get(("tcp_keepalive_probes", ""))
    return f"probes go out every {value} s" + ("" if probes is None else f", {probes} of them in {probes * value} s")


def say_time_wait_sockets(value: int, _: Live) -> str:
    """What ``tcp_max_tw_buckets`` comes to: rate and memory. The kernel compares unsigned numbers."""
    if value < 0:
        return "there is no limit"
    if value == 0:
        return "no socket may wait: every connection skips TIME-WAIT"
    rate, memory = value / TIMEWAIT_SECONDS, value * 256 / 2**20
    return f"{rate:.0f} connections a second can be closed by this side first, to wait 60 s; {memory:.1f} MiB when full"


def say_max_orphans(value: int, _: Live) -> str:
    """What ``tcp_max_orphans`` comes to; the kernel doubles or quadruples the weight of suspicious ones."""
    return f"orphans may be killed from {max(value, 0) // 4} on, and are above {value}"


def say_ports(live: Live, low: int, high: int) -> str:
    """What ``ip_local_port_range`` comes to, towards one destination address and port."""
    reserved = live.get(("net.ipv4.ip_local_reserved_ports", "count"), 0)
    number = max(high - low + 1, 0)
    if reserved:
        return f"{number} ports less the reserved, for connections to one address and port"
    per_second = number / TIMEWAIT_SECONDS
    return f"{number} connections to one address and port at a time, or {per_second:.0f} a second if each waits 60 s"


def say_low_port(value: int, live: Live) -> str:
    """``say_ports`` for the low end."""
    return say_ports(live, value, live.get(("net.ipv4.ip_local_port_range", "high"), 65535))


def say_high_port(value: int, live: Live) -> str:
    """``say_ports`` for the high end."""
    return say_ports(live, live.get(("net.ipv4.ip_local_port_range", "low"), 1024), value)


def _rto_max(live: Live) -> float:
    milliseconds = live.get(("tcp_rto_max_ms", ""))
    return RTO_MAX if milliseconds is None or milliseconds < 1000 else milliseconds / 1000
