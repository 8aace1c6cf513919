"""The configuration: whole files with whole messages in ``config/``, and what holds for any file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config import fields as vocabulary
from exporter.config import file as configfile
from exporter.config import yamlnodes
from exporter.config.schema import (
    Config,
    DetailSettings,
    LogSettings,
    SampleSettings,
    SysctlSettings,
    WebSettings,
    parse,
)
from exporter.errors import ConfigError, UsageError
from exporter.health.measures import BY_NAME
from exporter.health.thresholds import DEFAULTS, Range, Threshold, contradiction
from tests.conftest import situation_root

CASES = Path(__file__).parent
EXAMPLE = Path(__file__).parents[2] / "deploy" / "tcp-exporter.yml"


def mistakes_in(data: bytes, source: str = "f.yml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(data, source)
    return caught.value.mistakes


def everything() -> Config:
    return Config(
        SampleSettings(interval=0.25, peak_window=90.0, max_cpu_ratio=0.05, reader="procfs"),
        DetailSettings(
            0.0,
            1.0,
            ports=(80, 443),
            remote_ports=(5432,),
            max_series=1,
            namespaces=True,
            closes=True,
            quality="full",
        ),
        {
            "established": Threshold(Range.parse("10:"), Range.parse("@5:8")),
            "total": Threshold(None, Range.parse("10:20")),
            "time_wait_ratio": Threshold(Range.parse("0.8"), None),
            "close_wait": Threshold(Range.parse("~:5"), None),
            "listen": Threshold(),
        },
        SysctlSettings(
            {
                "tcp_syncookies": "1",
                "tcp_fin_timeout": Range.parse("15:60"),
                "tcp_rmem": "4096 131072 6291456",
                "net.core.somaxconn": Range.parse("4096:"),
                "net.ipv4.ip_local_port_range": "32768 60999",
            },
            "used",
        ),
        WebSettings(
            (":9100", "127.0.0.1:0", "[::1]:19293", "localhost:80"), "/tcp/metrics", "/etc/tcp-exporter/web.yml", 0
        ),
        LogSettings("warn", "json"),
    )


GOOD = {
    "everything": everything(),
    "empty": Config(),
    "only-comments": Config(),
    "hollow": Config(),
    "bom-and-crlf": Config(log=LogSettings(level="debug")),
}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yml")), ids=lambda path: path.stem)
def test_a_good_file_is_read_and_a_bad_one_reports_every_mistake_with_its_place(path: Path) -> None:
    if path.name.endswith(".good.yml"):
        assert configfile.load(str(path)) == GOOD[path.name.removesuffix(".good.yml")]
    else:
        assert (
            "".join(f"{line}\n" for line in mistakes_in(path.read_bytes(), path.name))
            == path.with_suffix(".txt").read_text()
        )


def test_every_bad_file_has_its_messages_and_every_message_its_file() -> None:
    assert {path.stem for path in CASES.glob("*.bad.txt")} == {path.stem for path in CASES.glob("*.bad.yml")}


def test_the_example_is_the_default_configuration_and_shows_every_key() -> None:
    assert configfile.load(str(EXAMPLE)) == Config()
    shown = yaml.safe_load(EXAMPLE.read_text())
    assert {key: list(shown[key]) for key in shown if key != "thresholds"} == {
        section.name: [key.name for key in fields(getattr(Config(), section.name))]
        for section in fields(Config)
        if section.name != "thresholds"
    }
    assert [measure for measure in BY_NAME if measure not in EXAMPLE.read_text()] == []


def test_the_defaults_are_the_documented_ones() -> None:
    assert Config() == Config(
        SampleSettings(1.0, 60.0, 0.01, "auto"),
        DetailSettings(15.0, 0.01, (), (), 100, namespaces=False, closes=False, quality="sampled"),
        DEFAULTS,
        SysctlSettings({}),
        WebSettings((":19293",), "/metrics", None, 40),
        LogSettings("info", "auto"),
    )


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().sample.interval = 2.0  # type: ignore[misc]


def test_the_thresholds_of_a_file_replace_the_defaults() -> None:
    assert parse(b"thresholds: {total: {warning: 5}}", "").thresholds == {"total": Threshold(Range.parse("5"), None)}
    assert parse(b"thresholds: {}", "").thresholds == {}


@pytest.mark.parametrize("text", ["10:20", "~:5", "600", "0.8", "1e3", "010", "1:30", "'@5:8'", '"10:"', "'600'"])
def test_a_range_keeps_the_text_that_was_written(text: str) -> None:
    read = parse(f"thresholds: {{total: {{warning: {text}}}}}".encode(), "").thresholds["total"].warning
    assert read == Range.parse(text.strip("'\""))


def test_an_expected_number_is_exact_and_not_a_range_that_is_content_with_less() -> None:
    read = parse(b"sysctl: {expected: {tcp_syncookies: 1, tcp_retries2: '@5:8'}}", "").sysctl.expected
    assert read == {"tcp_syncookies": "1", "tcp_retries2": Range.parse("@5:8")}


def test_an_expected_sysctl_goes_by_its_short_name() -> None:
    assert parse(b"sysctl: {expected: {net.ipv4.tcp_sack: 1}}", "").sysctl.expected == {"tcp_sack": "1"}


def test_a_sysctl_of_a_newer_kernel_may_be_named_where_it_exists(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("sysctl: {expected: {tcp_brand_new: 3, tcp_brand_new_text: any words}}\n")
    expected = configfile.load(str(file), situation_root("newer-kernel")).sysctl.expected
    assert expected == {"tcp_brand_new": "3", "tcp_brand_new_text": "any words"}
    with pytest.raises(ConfigError, match="neither this version nor this host knows it"):
        configfile.load(str(file), situation_root("quiet"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 0.5),
        ("15s", 15),
        ("1m", 60),
        ("1h", 3600),
        ("1d", 86400),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_a_duration_has_units_from_large_to_small(text: str, seconds: float) -> None:
    assert vocabulary.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "-1s", "1.5s", "1 s", "s", "1s1m", "1s1s", "1S", "1µs", "٣s", "1s\n", "9" * 5000]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^expected a duration such as 500ms, 15s or 1m30s, got "):
        vocabulary.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":19293", ("", 19293)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("db-1.example:80", ("db-1.example", 80)),
        ("unix:/run/tcp-exporter/tcp.sock", "/run/tcp-exporter/tcp.sock"),
        ("unix:/" + "x" * 106, "/" + "x" * 106),
    ],
)
def test_a_listen_address_is_a_host_and_a_port_or_a_path(text: str, address: tuple[str, int] | str) -> None:
    assert vocabulary.parse_listen_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "80",
        "host",
        "host:",
        "::1:80",
        "[]:80",
        "[::g]:80",
        "[1.2.3.4]:80",
        ":65536",
        ":-1",
        ":٣",
        ":80\n",
        "a b:80",
        "unix:",
        "unix:tcp.sock",
        "unix:80",
        "unix:/a\0b",
        "unix:/" + "ä" * 54,
    ],
)
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^expected "):
        vocabulary.parse_listen_address(text)


@pytest.mark.parametrize("spelling", ["close_wait", "CLOSE-WAIT", "Close-Wait", "CLOSE_WAIT"])
def test_a_threshold_takes_a_state_in_any_spelling_that_is_printed(spelling: str) -> None:
    read = parse(f"thresholds: {{{spelling}: {{warning: 5}}}}".encode(), "").thresholds
    assert read == {"close_wait": Threshold(Range.parse("5"))}


def test_an_unknown_measure_is_told_the_known_ones() -> None:
    assert mistakes_in(b"thresholds: {bananas: {}}") == [
        f"f.yml:1:14: thresholds.bananas: unknown measure; known are {', '.join(BY_NAME)}"
    ]


def test_mistakes_are_in_the_order_of_the_file_and_not_of_their_text() -> None:
    lines = b"log: {}\n" + b"".join(b"k%d: 1\n" % number for number in range(12))
    assert [mistake.split(":")[1] for mistake in mistakes_in(lines)] == [str(number + 2) for number in range(12)]


def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_is_refused() -> None:
    assert parse(b"#" * yamlnodes.MAX_BYTES, "") == Config()
    assert mistakes_in(b"#" * (yamlnodes.MAX_BYTES + 1)) == ["f.yml: is larger than 1 MiB"]


@pytest.mark.parametrize("data", [b"[" * 500_000, b"- " * 500_000, b"{" * 500_000, b"? " * 500_000, b"a: [" * 200_000])
def test_deep_nesting_is_a_mistake_and_never_a_crash(data: bytes) -> None:
    (mistake,) = mistakes_in(data)
    assert "nested more than 16 levels deep" in mistake or "not YAML" in mistake


def test_a_long_text_is_neither_accepted_nor_repeated() -> None:
    (mistake,) = mistakes_in(b"sample: {interval: %s}" % (b"9" * 100_000))
    assert mistake == "f.yml:1:20: sample.interval: expected at most 4096 characters, got 100000"


SHADOW = """\
root:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7:20228:0:99999:7:::
daemon:*:20228:0:99999:7:::
me:$1$saltsalt$abcdefghijklmnopqrstuv:20228:0:99999:7:::
old:abJnggxhB/yWI:20228:0:99999:7:::
"""
OURS = "sample, detail, thresholds, sysctl, web, log"
NOT_OURS = "not a configuration of this program: "


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (SHADOW, f"f.yml:1:1: {NOT_OURS}none of its 4 keys is known; known are {OURS}"),
        (SHADOW.splitlines()[0] + "\n", f"f.yml:1:1: {NOT_OURS}its only key is unknown; known are {OURS}"),
        ("me:secret\n", f"f.yml:1:1: expected a mapping with the keys {OURS}, got a single value"),
        ("PASSWORD=secret\nTOKEN=secret\n", f"f.yml:1:1: expected a mapping with the keys {OURS}, got a single value"),
        ("*secretsecret\n", "f.yml:1:1: expected a mapping, got an alias"),
        ("- secret\n", f"f.yml:1:1: expected a mapping with the keys {OURS}, got a list"),
        ("password: secret\ntoken: &secret x\n", f"f.yml:1:1: {NOT_OURS}none of its 2 keys is known; known are "),
        ("web: secret\n", "f.yml:1:6: web: expected a mapping with the keys listen_address, "),
        ("web: {" + "secret" * 20 + ": 1}\n", "f.yml:1:7: web.(a key of 120 characters): unknown key; known are "),
        ("web: {config_file: &" + "secret" * 20 + " a}\n", f"put &{'secret' * 5}… in quotes"),
        ("web: {telemetry_path: " + "secret" * 100 + "}\n", f"got '{'secret' * 10}…'"),
    ],
)  # fmt: skip
def test_a_file_is_repeated_no_further_than_it_takes_to_find_the_mistake(text: str, mistake: str) -> None:
    (found,) = mistakes_in(text.encode())
    assert mistake in found
    assert "secretsecret" not in found.replace("secret" * 10 + "…", "").replace("secret" * 5 + "…", "")
    assert "$" not in found
    assert "abJ" not in found


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_both_loaders_of_pyyaml_agree(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlnodes, "_LOADER", loader)
    for path in CASES.glob("*.yml"):
        want = path.with_suffix(".txt").read_text() if path.stem.endswith(".bad") else None
        if want is None:
            assert parse(path.read_bytes(), path.name) == GOOD[path.stem.removesuffix(".good")]
        elif "not YAML" in want:  # each has its own words, and the same place for them
            assert [line.split(" ")[0] for line in mistakes_in(path.read_bytes(), path.name)] == [want.split(" ")[0]]
        else:
            assert "\n".join(mistakes_in(path.read_bytes(), path.name)) == want.rstrip("\n")


@pytest.mark.parametrize("escape", [b"\\U00110000", b"\\ud800", b"\\x00"])
@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_an_absurd_escape_is_a_mistake_on_one_line(
    escape: bytes, loader: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamlnodes, "_LOADER", loader)
    (mistake,) = mistakes_in(b'log: {level: "%s"}' % escape)
    assert mistake.isprintable()


def test_the_hint_stands_beside_the_character_even_after_wide_ones() -> None:
    (mistake,) = mistakes_in("# ünïcödé €\nlog: @x".encode())
    assert mistake.endswith("; put a value that begins with @ in quotes")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            configfile.load(str(path))
        return str(caught.value).removeprefix(f"{path}: ")

    assert reason(tmp_path / "absent.yml") == "cannot be read: No such file or directory"
    assert reason(tmp_path) == "cannot be read: Is a directory"
    (large := tmp_path / "large.yml").write_bytes(b"#" * (2 << 20))
    assert reason(large) == "is larger than 1 MiB"
    if sys.platform == "linux":
        assert reason(Path("/dev/zero")) == "cannot be read: it is not a regular file"
    os.mkfifo(pipe := tmp_path / "pipe.yml")
    assert reason(pipe) == "cannot be read: it is not a regular file"


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (path := tmp_path / "secret.yml").touch(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            configfile.load(str(path))
    finally:
        os.seteuid(user)


YAMLISH = st.lists(
    st.sampled_from(
        [
            *(
                "sample",
                "interval",
                "thresholds",
                "established",
                "warning",
                "sysctl",
                "expected",
                "ports",
                "detail",
                "tcp_x",
            ),
            *(
                ":",
                ": ",
                "- ",
                "? ",
                "\n",
                "\n  ",
                "\n    ",
                " ",
                "\t",
                "{",
                "}",
                "[",
                "]",
                ", ",
                "#",
                "'",
                '"',
                "|\n",
                ">",
            ),
            *("&a ", "*a", "!!int ", "<<", "%YAML 1.1\n", "---\n", "...\n", "\\", "é"),
            *("~", "null", "true", "1s", "600", "@5:8", "10:20", "0"),
        ]
    )
).map(lambda parts: "".join(parts).encode())


@given(data=st.one_of(st.binary(), st.text().map(str.encode), YAMLISH))
@example(data=b"*a")
@example(data=b"? *a\n: b")
@example(data=b"%YAML 9.9\n---\n")
@example(data=b"%YAML 1." + b"1" * 5000 + b"\n---\n")
def test_any_bytes_are_a_configuration_or_a_config_error_of_printable_lines(data: bytes) -> None:
    for loader in {yamlnodes._LOADER, yaml.SafeLoader}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yamlnodes, "_LOADER", loader)
            try:
                assert isinstance(parse(data, "f.yml"), Config)
            except ConfigError as error:
                assert error.mistakes
                assert all(mistake.isprintable() and mistake.startswith("f.yml") for mistake in error.mistakes)


@pytest.mark.parametrize(
    "data",
    [
        b"detail: {ports: [" + b"x, " * 10_000 + b"]}",
        b"log: {}\n" + b"a: 1\n" * 10_000,
        b"detail: {ports: [" + b"&a 1, " * 100_000 + b"]}",
        b"thresholds:\n" + b"".join(b"  estab%d: {}\n" % number for number in range(10_000)),
        b"sysctl:\n  expected:\n" + b"".join(b"    tcp_a%d: 1\n" % number for number in range(10_000)),
        b"sysctl: {x%d: 1}\n" * 10_000,
    ],
    ids=["a list", "one key", "anchors", "measures", "sysctls", "sections"],
)
def test_of_a_file_full_of_mistakes_the_first_hundred_are_said(data: bytes) -> None:
    mistakes = mistakes_in(data)
    assert len(mistakes) == 101 or mistakes[-1] != "f.yml: more mistakes follow"
    assert 100 <= len(mistakes) <= 101


SECONDS = st.integers(100, 3_600_000).map(lambda milliseconds: milliseconds / 1000)
SHARES = st.floats(0, 1, exclude_min=True)
COUNTS = st.integers(1, 10**17)
PORTS = st.lists(st.integers(1, 65535), unique=True, max_size=5).map(tuple)
RANGES = st.builds(
    lambda form, bounds: Range.parse(form.format(*sorted(bounds))),
    st.sampled_from(["{1}", "{0}:", "~:{1}", "{0}:{1}", "@{0}:{1}", "0.{1}"]),
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
THRESHOLDS = st.builds(Threshold, st.none() | RANGES, st.none() | RANGES).filter(lambda it: contradiction(it) is None)
NUMBERS = st.integers(-(10**17), 10**17)
EXPECTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "net.core.somaxconn": RANGES.filter(lambda r: ":" in r.text) | NUMBERS.map(str),
        "tcp_rmem": st.lists(NUMBERS, min_size=3, max_size=3).map(lambda numbers: " ".join(map(str, sorted(numbers)))),
        "tcp_congestion_control": st.from_regex(r"\A[a-z]+\Z"),
    },
)
ADDRESSES = st.builds("{}:{}".format, st.sampled_from(["", "localhost", "[::]", "0.0.0.0"]), st.integers(0, 65535))
CONFIGS = st.builds(
    Config,
    st.builds(SampleSettings, SECONDS, SECONDS, SHARES, st.sampled_from(["auto", "netlink", "procfs", "psutil"])),
    st.builds(DetailSettings, st.just(0.0) | SECONDS, SHARES, PORTS, PORTS, COUNTS, st.booleans()),
    st.dictionaries(st.sampled_from(sorted(BY_NAME)), THRESHOLDS),
    st.builds(SysctlSettings, EXPECTATIONS),
    st.builds(
        WebSettings,
        st.lists(ADDRESSES, min_size=1, unique=True).map(tuple),
        st.sampled_from(["/metrics", "/a/b.c", "/apis", "/-x"]),
        st.none(),
        st.just(0) | COUNTS,
    ),
    st.builds(
        LogSettings,
        st.sampled_from(["debug", "info", "warn", "error"]),
        st.sampled_from(["auto", "logfmt", "json", "console"]),
    ),
)


def written(value: object) -> object:
    """The configuration as a document could say it."""
    if isinstance(value, Range):
        return value.text
    if isinstance(value, Threshold):
        return written(value._asdict())
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if isinstance(value, dict):
        return {key: written(item) for key, item in value.items()}
    if is_dataclass(value):
        document = {key.name: written(getattr(value, key.name)) for key in fields(value)}
        durations = document.keys() & {"interval", "peak_window"}
        return document | {key: f"{getattr(value, key) * 1000:.0f}ms" for key in durations}
    return value


@given(CONFIGS)
def test_any_configuration_that_is_written_is_read_back(wanted: Config) -> None:
    assert parse(json.dumps(written(wanted), ensure_ascii=False).encode(), "f.yml") == wanted  # JSON is YAML
