"""The plugin's command line, by getopt as the C plugins have it: so ``-w -5:10`` and ``-w~:10`` mean what they say.

Pure: from arguments to ``Options``, or ``UsageError`` with the option, what was found and what was expected.
"""

from __future__ import annotations

import sys

from exporter.errors import RangeError, UsageError, suggest
from exporter.health.measures import BY_NAME, MEASURES
from exporter.health.thresholds import DEFAULTS, DRIFT, NO_THRESHOLD, Range, Status, Threshold, contradiction
from exporter.kernel import READERS
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import BY_LABEL, of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType

SYSCTL, FINDINGS, EVERYTHING = "sysctl", "findings", "all"
"""What -s takes beside the measures: the number of sysctls that are not what the configuration expects; the findings,
which carry their own severity; and all that has a threshold together with the findings.
"""

DEFAULT_TIMEOUT = 8.0  # seconds: less than check_nrpe's 10, so that our answer comes first

USAGE = """\
Usage: check_tcp_states [-w SPEC] [-c SPEC] [-s MEASURE]... [-p PORT]
                        [--config FILE]
                        [--url URL [--peak] [--ca-file FILE]
                        [--cert-file FILE [--key-file FILE]]
                        [--credentials-file FILE]] [--reader READER]
                        [-t SECONDS[:STATE]] [-v...] [-V] [-h]
"""

_HELP = """\
{usage}
Checks the TCP sockets of this host: how many are in which state, how full the
limits are, and what is wrong.
With no option: warning above 600 established connections, critical above 800.

 -w, --warning=SPEC     warning if outside SPEC
 -c, --critical=SPEC    critical if outside SPEC
 -s, --state=MEASURE    judge this measure; repeatable (default: established)
                        -w or -c replaces the defaults of both
 -p, --port=PORT        count the sockets of this local port only; ratios and
                        limits stay those of the host; with --url only for
                        listen_drops; not with findings
     --config=FILE      read the thresholds, and for -s sysctl the expected
                        values, from the daemon's configuration file;
                        also --config.file
     --reader=READER    auto, netlink, procfs or psutil (default: auto)
     --path.procfs=DIR  where procfs is mounted (default: /proc)
     --url=URL          query the daemon at URL, such as http://127.0.0.1:19293,
                        instead of this host's kernel; UNKNOWN if its sample is
                        stale
     --peak             judge the highest count of each state in the daemon's
                        peak window; total, ratios and findings are current
     --ca-file=FILE     trust the certificates in FILE, not the system's
     --cert-file=FILE   present the client certificate in FILE
     --key-file=FILE    its private key (default: in the certificate's file)
     --credentials-file=FILE
                        read user:password for basic authentication from FILE
 -t, --timeout=SECONDS[:STATE]
                        give up after SECONDS (default: {timeout:g}) with STATE:
                        ok, warning, critical or unknown (default: unknown)
 -v, --verbose          explain what alerts: evidence, remedy, sysctls;
                        -vv adds how it was read; -vvv adds tracebacks
 -V, --version          print the version
 -h, --help             print this text

SPEC is a range [@][start:]end as in the Monitoring Plugins guidelines, for
every measure of -s, or a list: established=600,close_wait=50,syn_recv=~:100
  10     alert above 10 or below 0        10:20   alert outside 10 to 20
  10:    alert below 10                   @10:20  alert inside 10 to 20
  ~:10   alert above 10 (quote the ~)     ''      as if not given

MEASURE is one of
{states}
or how full a limit is, from 0 to 1:
{ratios}
or
{others}
  sysctl    how many sysctls differ from sysctl.expected of the configuration:
            warning above 0
  findings  what is wrong on this host, as tcp-exporter advise reports it; each
            finding has its own severity. Counts twice, 1 s apart
  all       everything with a threshold, from options, file or defaults; the
            findings; and sysctl if the file expects values. With --url the
            daemon's thresholds apply

--url uses the proxies of the environment (http_proxy, https_proxy, no_proxy),
but never for a loopback address. Redirections are not followed.
"""


def help_text() -> str:
    """What ``--help`` prints: 80 columns."""
    from textwrap import fill  # noqa: PLC0415 - only here

    def names(listed: Iterable[str]) -> str:
        return fill(" ".join(listed), 80, initial_indent="  ", subsequent_indent="  ")

    counts = [*BY_LABEL, "total"]
    ratios = [measure.name for measure in MEASURES if measure.is_ratio]
    others = "\n".join(
        fill(f"{it.name}  {it.definition}", 80, initial_indent="  ", subsequent_indent="            ")
        for it in MEASURES
        if it.name not in {*counts, *ratios}
    )
    return _HELP.format(usage=USAGE, timeout=DEFAULT_TIMEOUT, states=names(counts), ratios=names(ratios), others=others)


class Options(NamedTuple):
    """What the command line asks for. ``thresholds`` is None where the file or the defaults decide."""

    thresholds: Mapping[str, Threshold] | None = None
    measures: tuple[str, ...] = ()  # of -s, in their order
    findings: bool = False  # of -s
    everything: bool = False  # of -s: all that has a threshold, beside the findings
    config: str | None = None
    port: int = 0  # 0: all
    reader: str = "auto"
    procfs: str = "/proc"
    url: str | None = None  # the snapshot's, of a daemon; None reads this host's kernel
    peak: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    credentials_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    timeout_status: Status = Status.UNKNOWN
    verbose: int = 0
    show: str | None = None  # "help" or "version": print that and nothing else


_SHORT = "w:c:s:p:t:vVh?"
_LONG = [
    "warning=", "critical=", "state=", "port=", "config=", "config.file=", "reader=", "path.procfs=", "url=",
    "peak", "ca-file=", "cert-file=", "key-file=", "credentials-file=", "timeout=", "verbose", "version", "help",
]  # fmt: skip
_NAMES = {
    "-w": "warning", "-c": "critical", "-s": "state", "-p": "port", "-t": "timeout", "-v": "verbose", "-V": "version",
    "-h": "help",
    "-?": "help",
}  # fmt: skip
_MAX_TIMEOUT = 86400.0
_SNAPSHOT = "/api/v1/snapshot"


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line, without the program's name."""
    getopt = _getopt()
    try:
        given, rest = getopt.gnu_getopt(list(arguments), _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise UsageError(f"{error.msg}; see --help") from None
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}: everything is an option; see --help")
    specs: dict[str, list[tuple[str, str]]] = {"warning": [], "critical": []}
    measures: list[str] = []
    options = Options()
    for option, text in given:
        name = _NAMES.get(option, option.lstrip("-"))
        if name in specs:
            specs[name].append((option, text))
        elif name == "state":
            measures += [_measure(option, item) for item in text.split(",")]
        elif name == "verbose":
            options = options._replace(verbose=options.verbose + 1)
        elif name == "peak":
            options = options._replace(peak=True)
        elif name in {"help", "version"}:
            return Options(show=name)
        else:
            options = _VALUES[name](options, option, text)
    everything = EVERYTHING in measures
    chosen = tuple(name for name in dict.fromkeys(measures) if name not in {FINDINGS, EVERYTHING})
    options = options._replace(measures=chosen, findings=everything or FINDINGS in measures, everything=everything)
    _together(options)
    options = options._replace(thresholds=_thresholds(specs, options))
    if options.port and options.url is not None and not _all_of_ports(options):
        raise UsageError("--port: with --url only for measures that the daemon knows by port; see --help")
    return options


def _all_of_ports(options: Options) -> bool:
    """Whether every measure that is asked for is known of a port alone."""
    names = {*options.measures, *(options.thresholds or ())}
    return bool(names) and all(name in BY_NAME and BY_NAME[name].of_port is not None for name in names)


def _getopt() -> ModuleType:
    """The standard parser without translations: gettext imports re, which together are 11 % of the plugin's start."""
    if "gettext" in sys.modules:
        import getopt  # noqa: PLC0415 - see above

        return getopt
    sys.modules["gettext"] = None  # type: ignore[assignment]  # how the import system is told that there is none
    try:
        import getopt  # noqa: PLC0415 - see above
    finally:
        del sys.modules["gettext"]
    return getopt


def judged(options: Options, thresholds: Mapping[str, Threshold], *, drift: bool = False) -> dict[str, Threshold]:
    """The measures to judge and their thresholds, in the order in which they are named.

    *thresholds* are the file's, the daemon's or the defaults; options beat them, and ``-s`` alone narrows them. *drift*
    says whether sysctls are expected to be something: ``-s all`` judges that too.
    """
    in_force = thresholds if options.thresholds is None else options.thresholds
    names = dict.fromkeys((*options.measures, *(options.thresholds or ())))
    if options.everything:
        names |= dict.fromkeys((*in_force, *((SYSCTL,) if drift else ())))
    elif not names and not options.findings:
        names = dict.fromkeys(in_force or DEFAULTS)
    return {name: in_force.get(name, DRIFT if name == SYSCTL else NO_THRESHOLD) for name in names}


def _thresholds(specs: Mapping[str, list[tuple[str, str]]], options: Options) -> Mapping[str, Threshold] | None:
    """What -w and -c say for each measure that they name, or for all that are chosen; None where they say nothing."""
    ranges: dict[str, dict[str, Range]] = {}
    for severity, texts in specs.items():
        for option, text in texts:
            for measure, limit in _spec(option, text, options):
                ranges.setdefault(measure, {})[severity] = limit
    thresholds = {name: Threshold(found.get("warning"), found.get("critical")) for name, found in ranges.items()}
    for measure, threshold in thresholds.items():
        complaint = contradiction(threshold)
        if complaint is not None:
            raise UsageError(f"-w: {measure}: {complaint}")
    return thresholds or None


def _spec(option: str, text: str, options: Options) -> list[tuple[str, Range]]:
    """A range for all chosen, or a list ``measure=range,...``; an empty text, of an unset macro, is none."""
    if not text.strip():
        return []
    try:
        if "=" not in text:
            limit = Range.parse(text)
            return [(measure, limit) for measure in _ranged(option, options)]
        pairs = []
        for item in text.split(","):
            measure, equals, limit_text = item.partition("=")
            if not equals:
                raise UsageError(f"{option}: expected measure=range, got {item!r}")
            name = _measure(option, measure)
            if name in {FINDINGS, EVERYTHING}:
                raise UsageError(f"{option}: {name} takes no range: a finding carries its own severity")
            if limit_text.strip():
                pairs.append((name, Range.parse(limit_text)))
    except RangeError as error:
        raise UsageError(f"{option}: {error}") from None
    return pairs


def _ranged(option: str, options: Options) -> tuple[str, ...]:
    """The measures that a range without a name is for."""
    if options.everything:
        raise UsageError(f"{option}: with -s all expected measure=range: no range is right for every measure")
    if options.findings and not options.measures:
        raise UsageError(f"{option}: findings takes no range: a finding carries its own severity")
    return options.measures or tuple(DEFAULTS)


def _measure(option: str, text: str) -> str:
    """What *text* names; a state in any spelling that we print."""
    name = text.strip()
    if name in BY_NAME or name in {SYSCTL, FINDINGS, EVERYTHING}:
        return name
    state = of_name(name)
    if state is None:
        known = (*BY_NAME, SYSCTL, FINDINGS, EVERYTHING)
        expected = suggest(name, known) or f": expected one of {', '.join(known)}"
        raise UsageError(f"{option}: unknown measure {name!r}{expected}")
    return state.label


def _port(options: Options, option: str, text: str) -> Options:
    # No more than five digits: of thousands int() raises ValueError.
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UsageError(f"{option}: expected a port from 1 to 65535, got {text!r}")
    return options._replace(port=int(text))


def _reader(options: Options, option: str, text: str) -> Options:
    if text not in READERS:
        raise UsageError(f"{option}: expected one of {', '.join(READERS)}, got {text!r}")
    return options._replace(reader=text)


def _url(options: Options, option: str, text: str) -> Options:
    """The daemon's base, or the snapshot's own URL. What may be a password is not repeated in the message."""
    from exporter.urls import checked  # noqa: PLC0415 - an eighth of the plugin's start, and here alone it is needed

    checked(option, text)
    return options._replace(url=text.rstrip("/").removesuffix(_SNAPSHOT) + _SNAPSHOT)


def _together(options: Options) -> None:
    """Refuse what says nothing without --url, with it, or with the findings."""
    if options.port and options.findings:
        raise UsageError("--port: not with -s findings, which are those of the whole host; see --help")
    remote = {
        "--peak": options.peak,
        "--ca-file": options.ca_file,
        "--cert-file": options.cert_file,
        "--key-file": options.key_file,
        "--credentials-file": options.credentials_file,
    }
    local = {
        "--reader": options.reader != "auto",
        "--path.procfs": options.procfs != "/proc",
    }
    for option, given in (remote if options.url is None else local).items():
        if given not in {None, False}:
            raise UsageError(f"{option}: {'only with' if option in remote else 'not with'} --url; see --help")


def _timeout(options: Options, option: str, text: str) -> Options:
    seconds, colon, state = text.partition(":")
    status = Status.UNKNOWN
    if colon:
        names = {status.name: status for status in Status} | {str(status.value): status for status in Status}
        if state.upper() not in names:
            raise UsageError(f"{option}: expected ok, warning, critical or unknown after the colon, got {state!r}")
        status = names[state.upper()]
    if not (seconds.isascii() and seconds.replace(".", "", 1).isdigit()) or not 0 < float(seconds) <= _MAX_TIMEOUT:
        raise UsageError(f"{option}: expected seconds above 0, as 8 or 8:critical, got {text!r}")
    return options._replace(timeout=float(seconds), timeout_status=status)


_VALUES: Mapping[str, Callable[[Options, str, str], Options]] = {
    "ca-file": lambda options, _, text: options._replace(ca_file=text),
    "cert-file": lambda options, _, text: options._replace(cert_file=text),
    "config": lambda options, _, text: options._replace(config=text),
    "config.file": lambda options, _, text: options._replace(config=text),
    "credentials-file": lambda options, _, text: options._replace(credentials_file=text),
    "key-file": lambda options, _, text: options._replace(key_file=text),
    "path.procfs": lambda options, _, text: options._replace(procfs=text),
    "port": _port,
    "reader": _reader,
    "timeout": _timeout,
    "url": _url,
}
