"""tcp_max_syn_backlog: nothing depends on it while cookies are on, and every SYN does while they are off."""

from __future__ import annotations

from exporter.health.sysctls.verdicts import Verdict, verdicts
from exporter.kernel.sysctl import parse


def judged(cookies: int, value: int, somaxconn: int = 4096) -> Verdict:
    texts = {"tcp_syncookies": cookies, "tcp_max_syn_backlog": value, "net.core.somaxconn": somaxconn}
    sysctls = {name: parse(name, str(text)) for name, text in texts.items()}
    return next(it for it in verdicts(sysctls, {}, "6.18.44") if it.name == "tcp_max_syn_backlog")


def test_any_value_is_right_while_cookies_are_on() -> None:
    assert not judged(cookies=1, value=1).deviates
    assert judged(cookies=1, value=128).arithmetic == "128: no limit while cookies are on"


def test_three_quarters_of_it_have_to_hold_the_longest_backlog_while_cookies_are_off() -> None:
    short = judged(cookies=0, value=2048)
    assert (short.deviates, short.recommended) == (True, 5461)
    assert short.arithmetic == (
        "2048: a listener holds at most 1537 half-open connections while cookies are off; "
        "5461: a listener holds at most 4097 half-open connections while cookies are off"
    )
    assert not judged(cookies=0, value=5461).deviates
