"""Quantities as they are read: three digits and a unit."""

from __future__ import annotations


def count(number: int) -> str:
    """A number of sockets or of samples, in words from a million on.

    >>> count(300), count(10_000), count(1_000_000)
    ('300', '10,000', '1 million')
    """
    return f"{number // 10**6} million" if number >= 10**6 and number % 10**6 == 0 else f"{number:,}"


def seconds(value: float) -> str:
    """A time.

    >>> seconds(0.0000123), seconds(0.0221), seconds(3.6543), seconds(123.4)
    ('12.3 µs', '22.1 ms', '3.65 s', '123 s')
    """
    for factor, unit in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")):
        if value * factor < 999.5 or unit == "s":
            return f"{digits(value * factor)} {unit}"
    raise AssertionError("unreachable")


def mebibytes(value: float) -> str:
    """Bytes, as MiB.

    >>> mebibytes(41943040), mebibytes(1258291), mebibytes(-1258291)
    ('40.0 MiB', '1.20 MiB', '-1.20 MiB')
    """
    return f"{digits(value / 2**20)} MiB"


def times(ratio: float) -> str:
    """A ratio.

    >>> times(1.0432), times(20), times(1234.5)
    ('1.04 x', '20.0 x', '1,234 x')
    """
    return f"{digits(ratio)} x"


def percent(share: float) -> str:
    """A share of a core.

    >>> percent(0.005), percent(0.0123)
    ('0.50 %', '1.23 %')
    """
    return f"{share * 100:.2f} %"


def digits(value: float) -> str:
    """Three digits, or all before the point.

    >>> digits(1.2345), digits(12.345), digits(123.45), digits(12345)
    ('1.23', '12.3', '123', '12,345')
    """
    size = abs(value)
    return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:,.0f}"
