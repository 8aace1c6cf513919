"""What the documents show is what the programs do: their examples are run, their names and links exist.

With ``--update-golden`` the shown outputs are rewritten; the diff is reviewed like any golden's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

import exporter
from benchmarks.results import of_json
from benchmarks.units import count, seconds
from exporter.config import schema as config
from exporter.kernel.catalogue import CATALOGUE
from exporter.nagios import arguments
from exporter.terminal.who import NOT_FOUND, Row, holders, render
from tests.test_docs import metric_names

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(
        str(path.relative_to(ROOT))
        for pattern in ("docs/*.md", "deploy/*/README.md", "tests/*/README.md")
        for path in sorted(ROOT.glob(pattern))
        if path.name != "tutorial.md"  # tests/test_tutorial.py runs it, in a namespace
    ),
]
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_MEASURES_OF_NETLINK = {"accept_queue_ratio", "syn_queue_ratio"}  # a recorded /proc does not have them
_EXAMPLE = re.compile(r"^(?P<indent> *)# {3}(?P<line> *\S.*)\n", re.MULTILINE)
_GRAMMAR = re.compile(r"(?P<indent> *)\[ (?P<key>\w+): .+ \| default = (?P<default>.+) \]|(?P<section>\w+):")


class Shown(NamedTuple):
    """A command of a console block, and the lines below it."""

    command: str
    output: list[str]


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, kind: str) -> list[str]:
    return [found["body"] for found in _FENCE.finditer(text_of(document)) if found["kind"] == kind]


def commands(block: str) -> list[Shown]:
    shown: list[Shown] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            shown.append(Shown(line.removeprefix("$ "), []))
        else:
            shown[-1].output.append(line)
    return shown


def run(block: str) -> list[Shown]:
    """Run the commands of a block one after the other; each sees the exit code of the one before it in $?."""
    ran, code = [], 0
    for shown in commands(block):
        done = subprocess.run(
            ["/bin/sh", "-c", f"(exit {code}); {shown.command}"],
            env=ENVIRONMENT, cwd=ROOT, timeout=60, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        code = done.returncode
        # Where and when the table was made is the only thing that is not the same everywhere.
        said = re.sub(r"^TCP on \S+, .+", "TCP on host.example, 2023-11-14 22:13:20 UTC", done.stdout)
        ran.append(Shown(shown.command, [line.rstrip() for line in said.splitlines()]))
    return ran


def written(ran: list[Shown]) -> str:
    return "".join(f"$ {shown.command}\n" + "".join(f"{line}\n" for line in shown.output) for shown in ran)


def replace_block(document: str, before: str, after: str) -> None:
    (ROOT / document).write_text(text_of(document).replace(f"\n{before}```", f"\n{after}```"), encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_console_block_shows_what_its_commands_print(document: str, request: pytest.FixtureRequest) -> None:
    for block in blocks(document, "console"):
        ran = run(block)
        if request.config.getoption("--update-golden"):
            replace_block(document, block, written(ran))
        else:
            assert commands(block) == ran


def test_the_metrics_that_the_readme_shows_are_lines_of_a_golden(request: pytest.FixtureRequest) -> None:
    golden = text_of("tests/golden/busy.prom").splitlines()
    (block,) = [block for block in blocks("README.md", "text") if block.startswith("tcp_")]
    if request.config.getoption("--update-golden"):
        current = {line.rpartition(" ")[0]: line for line in golden}
        after = "".join(f"{current.get(line.rpartition(' ')[0], line)}\n" for line in block.splitlines())
        replace_block("README.md", block, after)
    else:
        assert [line for line in block.splitlines() if line not in golden] == []
        assert len(block.splitlines()) == 5


def test_the_plugins_answer_that_the_readme_shows_is_a_golden() -> None:
    code, line, *_ = text_of("tests/golden/busy.check").splitlines()
    (block,) = [block for block in blocks("README.md", "console") if "\nTCP STATES" in block and "echo" in block]
    answer, echo = commands(block)
    assert (answer.output, echo.output) == ([line], [code.removeprefix("exit ")])


def plugin_examples() -> Iterator[str]:
    for block in blocks("docs/plugin.md", "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "check_tcp_states":
                yield line.partition("  #")[0].strip()


def commented_nrpe_commands() -> list[str]:
    return re.findall(r"^# command\[\w+\]=\S+/(check_tcp_states.*)$", text_of("deploy/nagios/nrpe.cfg"), re.MULTILINE)


def is_answered_by_procfs(example: str) -> bool:
    options = arguments.parse(shlex.split(example)[1:])
    return options.url is None and _MEASURES_OF_NETLINK.isdisjoint(options.measures)


@pytest.mark.parametrize("example", [*plugin_examples(), *commented_nrpe_commands()])
def test_every_example_of_the_plugin_is_a_command_line_that_it_takes(example: str) -> None:
    assert arguments.parse(shlex.split(example)[1:]).show is None


@pytest.mark.parametrize("example", [*filter(is_answered_by_procfs, plugin_examples())])
def test_every_example_of_the_plugin_gets_an_answer(example: str) -> None:
    command = example.replace("/etc/tcp-exporter.yml", "deploy/tcp-exporter.yml")
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --path.procfs tests/fixtures/proc/quiet"],
        env=ENVIRONMENT, cwd=ROOT, timeout=60, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode in {0, 2}, done.stderr) == (True, ""), done.stdout


def test_the_answer_of_who_that_the_commands_page_shows_is_one_that_it_gives() -> None:
    (block,) = [
        block for block in blocks("docs/commands.md", "text") if block.startswith("$ tcp-exporter who close_wait\n")
    ]
    (shown,) = commands(block)
    rows = [
        Row(found["label"], int(found["sockets"]), found["detail"] or "")
        for line in shown.output[2:]
        if (found := re.fullmatch(r" *(?P<sockets>\d+)  (?P<label>\S+)(?: \((?P<detail>[^)]+)\))?", line))
    ]
    missing = int(shown.output[1].split()[0]) - sum(row.sockets for row in rows)
    answer = holders(shown.command.split()[-1], "process", rows, [Row(NOT_FOUND, missing)])
    assert render(answer, 20, color=False).splitlines() == shown.output


def lab_commands() -> Iterator[str]:
    for block in blocks("tests/lab/README.md", "sh"):
        yield from (line.partition("  #")[0].strip() for line in block.splitlines() if "tests.lab" in line)


@pytest.mark.lab
@pytest.mark.parametrize("command", [*lab_commands()])
def test_every_command_of_the_lab_runs_as_it_is_written(command: str) -> None:
    """What it runs in there is this environment's, wherever that is."""
    words = [
        str(Path(sys.executable).with_name(Path(word).name)) if word.startswith(".venv/bin/") else word
        for word in shlex.split(command)
    ]
    assert command.startswith(".venv/bin/python -m tests.lab ")
    done = subprocess.run(
        words, env=ENVIRONMENT, cwd=ROOT, timeout=120, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stdout)
    judged_critical = 2 if "check_tcp_states" in command else 0  # 801 are above 800
    assert done.returncode == judged_critical, done.stdout
    assert "lab:" not in done.stdout


def configuration_examples() -> Iterator[tuple[str, str]]:
    """Each example of the shipped configuration: its key, and the file with the example in the place of that key."""
    lines = text_of("deploy/tcp-exporter.yml").splitlines(keepends=True)
    example: list[str] = []
    for number, line in enumerate(lines):
        found = _EXAMPLE.fullmatch(line)
        if found:
            example.append(f"{found['indent']}{found['line']}\n")
        elif example and not line.lstrip().startswith("#"):
            key, indent = line.partition(":")[0], len(line) - len(line.lstrip())
            assert example[0].startswith(f"{key}:"), (example[0], line)
            after = number + 1
            while after < len(lines) and lines[after].startswith(" " * (indent + 1)):
                after += 1
            yield key.strip(), "".join([*lines[:number], *example, *lines[after:]])
            example = []
    assert not example


def test_the_shipped_configuration_has_an_example_of_each_key_that_is_a_list_or_a_mapping() -> None:
    examples = {key for key, _ in configuration_examples()}
    assert examples == {"ports", "remote_ports", "thresholds", "expected", "listen_address"}


@pytest.mark.parametrize(("key", "text"), [*configuration_examples()], ids=dict(configuration_examples()))
def test_every_example_of_the_shipped_configuration_is_valid_in_the_place_of_its_key(key: str, text: str) -> None:
    changed = config.parse(text.encode(), "deploy/tcp-exporter.yml")
    assert changed != config.Config(), key
    assert config.parse(text_of("deploy/tcp-exporter.yml").encode(), "deploy/tcp-exporter.yml") == config.Config()


def test_the_flags_of_the_daemon_are_those_of_its_help() -> None:
    help_text = subprocess.run(
        ["tcp-exporter", "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    first_cells = re.findall(r"^\| (`--[^|]+)\|", text_of("docs/configuration.md"), re.MULTILINE)
    documented = re.findall(r"`(--[a-z.-]+)`", "".join(first_cells))
    assert set(documented) == set(re.findall(r"--[a-z][a-z.-]+", help_text)) - {"--help"}
    assert len(documented) == len(set(documented))


def test_the_commands_are_those_of_the_program() -> None:
    from exporter.cli import COMMANDS  # noqa: PLC0415 - imports the daemon's side, which no other test here needs

    documented = re.findall(r"^\| `tcp-exporter ([a-z-]+)", text_of("docs/commands.md"), re.MULTILINE)
    assert sorted(documented) == sorted(set(COMMANDS) - {"serve"})


def grammar() -> dict[tuple[str, ...], str]:
    """The defaults that the documented grammar gives, by the path of the key."""
    (block,) = [block for block in blocks("docs/configuration.md", "text") if block.startswith("sample:")]
    defaults: dict[tuple[str, ...], str] = {}
    section = ""
    for line in block.splitlines():
        found = _GRAMMAR.fullmatch(line)
        assert found, line
        section = found["section"] or section
        if found["key"]:
            defaults[(section, found["key"]) if found["indent"] else (found["key"],)] = found["default"]
    return defaults


def keys_of(cls: type, *path: str) -> Iterator[tuple[str, ...]]:
    for field in fields(cls):
        default = getattr(cls(), field.name)
        if is_dataclass(default):
            yield from keys_of(type(default), *path, field.name)
        else:
            yield (*path, field.name)


def test_the_grammar_has_every_key_of_the_configuration() -> None:
    assert list(grammar()) == list(keys_of(config.Config))


@pytest.mark.parametrize("path", grammar(), ids=".".join)
def test_the_grammars_defaults_are_the_programs(path: tuple[str, ...]) -> None:
    default = grammar()[path]
    text = f"{path[0]}: {default}" if len(path) == 1 else f"{path[0]}:\n  {path[1]}: {default}"
    assert config.parse(text.encode(), "docs/configuration.md") == config.Config()


def test_the_promises_are_kept_by_what_the_last_long_runs_came_to(request: pytest.FixtureRequest) -> None:
    """``--update-golden`` writes the rows."""
    fuzz = json.loads(text_of("docs/trust/fuzz.json"))["targets"].values()
    soak = json.loads(text_of("docs/trust/soak.json"))
    kernels = json.loads(text_of("docs/trust/kernels.json"))
    load, far, large, day = (soak[part] for part in ("load", "far", "large", "day"))
    rates = [it["per_second"] for it in far["floods"]]
    size, peak = large[0]["size"], max(max(it["peak"], it["charged"]) for it in large)
    clients, growth = load["clients"], day["growth"]
    slow = sum(number for kind, number in clients.items() if kind != "good")
    faults = len(re.findall(r"^\| (?!Fault|---)", text_of("docs/faults.md"), re.MULTILINE))
    rows = {
        "it serves under load": f"{slow + clients['good'] + 1:,} clients, {slow} of them silent, slow or not reading, "
        f"for {load['seconds']} s: {load['scrapes'] - load['failed']} of {load['scrapes']} scrapes of a Prometheus, "
        f"the slowest {load['slowest_seconds']:.2f} s; memory +{load['growth_kib']} KiB",
        "it lets a far scraper in": f"{far['round_trip_seconds'] * 1000:.0f} ms away, beside {min(rates):.0f} to "
        f"{max(rates):.0f} new connections a second that stay silent, from one address, from many or from a /64 of "
        f"IPv6, with and without TLS: {far['scrapes'] - far['failed']} of {far['scrapes']} scrapes, the slowest "
        f"{far['slowest_seconds']:.2f} s",
        "it stays within its memory limit": f"{size['listeners']:,} listeners, {size['cgroups']:,} cgroups, "
        f"{size['namespaces']:,} network namespaces and {size['unread']} clients that do not read: "
        f"{peak / 2**20:.0f} MiB at most, of {large[0]['limit'] // 2**20} that the unit and the DaemonSet allow",
        "it leaks nothing in a day": f"{day['samples']:,} samples with churn, {day['reloads']} reloads, every second "
        f"one of a bad file, {day['requests']:,} requests and {day['checks']} checks: "
        f"memory +{growth['resident']} KiB, descriptors +{growth['descriptors']}, threads +{growth['threads']}",
        "no input breaks it": f"{sum(target['inputs'] for target in fuzz) / 1e6:.1f} million inputs over {len(fuzz)} "
        "targets, from netlink's replies to the plugin's arguments: "
        f"{sum(target['failures'] for target in fuzz)} failures",
        "it counts the same on every kernel": f"{kernels[0]['checks that passed']} checks on each of {len(kernels)} "
        f"kernels of Debian, {kernels[0]['kernel']} to {kernels[-1]['kernel']}: [kernels.md](kernels.md)",
        "it survives faults": f"{faults} kinds, each provoked for real: [faults.md](faults.md)",
    }
    page = text_of("docs/trust.md")
    if request.config.getoption("--update-golden"):
        for promise, measured in rows.items():
            page = re.sub(rf"(?m)^(\| {promise} \| ).+?( \| `make)", rf"\g<1>{measured}\g<2>", page)
        Path("docs/trust.md").write_text(page, encoding="utf-8")
    shown = dict(re.findall(r"^\| (.+?) \| (.+?) \| `make \w+` \|$", page, re.MULTILINE))
    assert {promise: shown.get(promise) for promise in rows} == rows


def test_the_five_numbers_of_the_readme_are_those_of_the_last_runs() -> None:
    fuzz = json.loads(text_of("docs/trust/fuzz.json"))["targets"].values()
    soak = json.loads(text_of("docs/trust/soak.json"))
    kernels = json.loads(text_of("docs/trust/kernels.json"))
    load, day = soak["load"], soak["day"]
    hostile = sum(number for kind, number in load["clients"].items() if kind != "good")
    results = of_json(text_of("docs/performance/results.json"))
    size = max(results.sizes())
    ours, theirs = (results.median(what, "cpu", size) for what in ("daemon_counting", "node_exporter"))
    assert ours
    assert theirs
    claims = [
        f"A sample of {count(size)} sockets takes {seconds(ours)} of CPU time, {theirs / ours:.1f} times less than "
        "node_exporter's `tcpstat`: `make bench`.",
        f"{kernels[0]['checks that passed']} checks pass on each of {len(kernels)} kernels of Debian, "
        f"{kernels[0]['kernel']} to {kernels[-1]['kernel']}: `make kernels`.",
        f"{hostile} hostile clients out of {hostile + load['clients']['good'] + 1:,} did not fail one of "
        f"{load['scrapes']} scrapes, the slowest of which took {load['slowest_seconds']:.2f} s: `make soak`.",
        f"After {day['samples']:,} samples and {day['reloads']} reloads its memory had grown by "
        f"{day['growth']['resident']} KiB: `make soak`.",
        f"{sum(target['inputs'] for target in fuzz) / 1e6:.1f} million inputs to {len(fuzz)} parsers caused "
        f"{sum(target['failures'] for target in fuzz)} failures: `make fuzz`.",
    ]
    assert load["failed"] == 0
    shown = re.findall(r"^\* \*\*[^*]+\*\* (.+)$", text_of("README.md").partition("## Why you")[2], re.MULTILINE)
    assert shown == claims


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 180


def test_the_index_has_every_page_once() -> None:
    listed = re.findall(r"^\d+\. \[(.+?)\]\((.+?)\): ", text_of("docs/README.md"), re.MULTILINE)
    assert all(name == link for name, link in listed)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(name for name, _ in listed) == sorted(pages)


def test_the_scrape_configuration_is_the_file_that_is_shipped() -> None:
    shipped = text_of("deploy/prometheus/scrape.yml")
    (block,) = [block for block in blocks("README.md", "yaml") if block.startswith("scrape_configs:")]
    assert shipped.endswith(block)


def test_the_configuration_that_the_page_shows_is_valid() -> None:
    (block,) = blocks("docs/configuration.md", "yaml")
    assert config.parse(block.encode(), "docs/configuration.md") != config.Config()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_metric_and_sysctl_that_a_document_names_exists(document: str) -> None:
    named = set(re.findall(r"`(tcp_[a-z0-9_]+)[`{]", text_of(document)))
    assert named - set(metric_names()) - set(CATALOGUE) - {"tcp_info"} == set()  # a struct of the kernel


def where(link: str, document: str) -> Path:
    """The file that a link means; the package may be installed elsewhere, as when its wheel is tested."""
    target = Path(os.path.normpath(Path(document).parent / link))
    if target.parts[0] == "exporter":
        return Path(exporter.__file__).parent.joinpath(*target.parts[1:])
    return ROOT / target


def anchors_of(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(document)):
        if link.startswith("https:"):
            continue
        path, _, anchor = link.partition("#")
        target = where(path, document) if path else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), link


def test_every_file_that_contributing_names_exists() -> None:
    named = re.findall(r"`((?:exporter|tests|docs)/[\w./]+)`", text_of("CONTRIBUTING.md"))
    assert [name for name in named if not where(name, "CONTRIBUTING.md").exists()] == []
    assert named


def test_the_rim_is_the_one_that_the_linter_enforces() -> None:
    allowed: Mapping[str, list[str]] = tomllib.loads(text_of("pyproject.toml"))["tool"]["ruff"]["lint"][
        "per-file-ignores"
    ]
    enforced = [name for name, rules in allowed.items() if "TID251" in rules and name.startswith("exporter/")]
    _, _, rim = text_of("CONTRIBUTING.md").partition("\n## The rim\n")
    documented = re.findall(r"^\| `(exporter/[\w./*]+)`", rim, re.MULTILINE)
    assert documented == enforced


def test_the_changelog_speaks_of_this_version() -> None:
    assert exporter.__version__ in text_of("CHANGELOG.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_table_has_its_head_and_no_gap(document: str) -> None:
    """The first empty line ends a table, and what follows is shown as a paragraph full of bars."""
    tables = re.findall(r"(?:^\|.*\n)+", _FENCE.sub("", text_of(document)), re.MULTILINE)
    assert [table for table in tables if not re.match(r"\|.*\n\|(?: --- \|)+\n", table)] == []


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if name.startswith(("docs/", "deploy/"))] + ["docs/tutorial.md"]
)
def test_every_page_begins_with_whom_it_is_for(document: str) -> None:
    assert re.match(r"# .+\n\n(This page is for|For) \w+", text_of(document)), document


@pytest.mark.parametrize("document", DOCUMENTS)
def test_prose_has_one_sentence_a_line(document: str) -> None:
    prose = _FENCE.sub("", text_of(document)).splitlines()
    paragraphs = [line for line in prose if line[:1] not in {"|", "*", "-", "#", "<"} and not re.match(r"\d\. ", line)]
    assert [line for line in paragraphs if re.search(r"[.!?] [A-Z]", line)] == []
