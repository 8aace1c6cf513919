"""What a user copies works as it is: the unit, the scrape configuration, the image."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNITS = ROOT / "systemd"
EXPOSURE = {  # of systemd-analyze security, times ten: what is left is what the service with these drop-ins needs
    ("tcp-exporter.service",): 16,
    ("tcp-exporter.service", "socket"): 14,
    ("tcp-exporter.service", "netns"): 23,
    ("tcp-exporter.service", "socket", "netns"): 21,
    ("tcp-exporter-textfile.service",): 14,
}


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str) -> tuple[int, str]:
    """The exit code, and what it wrote to standard output and after that what it wrote to standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def output(*command: str) -> str:
    """The standard output alone of a command that succeeds: in a pipe that is shared, a log lies inside of it."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, unit: str, *drop_ins: str) -> str:
    """Put the unit with those drop-ins, and all the others that it may name, into a folder; returns its path there."""
    for file in UNITS.glob("*.*"):
        if file.is_file():
            # The program is installed on a user's host and perhaps not here, and systemd wants it to exist.
            text = file.read_text(encoding="utf-8").replace("=/usr/bin/tcp-exporter", "=/bin/true")
            (folder / file.name).write_text(text, encoding="utf-8")
    for name in drop_ins:
        text = (UNITS / f"{unit}.d" / f"{name}.conf").read_text(encoding="utf-8")
        (folder / f"{unit}.d").mkdir(exist_ok=True)
        (folder / f"{unit}.d" / f"{name}.conf").write_text(text.replace("=/usr/bin/tcp-exporter", "=/bin/true"))
    return str(folder / unit)


@pytest.mark.parametrize("unit", [*EXPOSURE, ("tcp-exporter.socket",), ("tcp-exporter-textfile.timer",)], ids=" ".join)
def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path, unit: tuple[str, ...]) -> None:
    systemd_analyze = installed("systemd-analyze")
    assert run(systemd_analyze, "verify", "--man=no", install(tmp_path, *unit)) == (0, "")


@pytest.mark.parametrize(("unit", "exposure"), EXPOSURE.items(), ids=map(" ".join, EXPOSURE))
def test_the_unit_is_as_closed_as_its_comments_say(tmp_path: Path, unit: tuple[str, ...], exposure: int) -> None:
    systemd_analyze = installed("systemd-analyze")
    path = install(tmp_path, *unit)
    code, said = run(systemd_analyze, "security", "--offline=true", f"--threshold={exposure}", path)
    assert code == 0, said


def test_no_unit_is_forgotten_here() -> None:
    checked = {unit[0] for unit in EXPOSURE} | {"tcp-exporter.socket", "tcp-exporter-textfile.timer"}
    assert checked == {file.name for file in UNITS.iterdir() if file.is_file()}
    drop_ins = {(unit[0], name) for unit in EXPOSURE for name in unit[1:]}
    assert drop_ins == {(file.parent.name.removesuffix(".d"), file.stem) for file in UNITS.glob("*.d/*")}


def unit_files() -> list[Path]:
    return sorted(file for file in UNITS.rglob("*") if file.is_file())


@pytest.mark.parametrize("file", unit_files(), ids=lambda file: str(file.name))
def test_a_unit_begins_with_how_to_install_it_from_files_that_are_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    comment = text[: text.index("\n[")]
    assert [line for line in comment.splitlines() if not line.startswith("#")] == []
    # Where another file has the lines, it is named.
    named = re.findall(r"tcp-exporter[\w.-]*\.(?:service|socket|timer)\b", comment)
    assert "install" in comment
    assert named
    for path in re.findall(r"(?<!/)\bsystemd/\S+", comment):
        assert (ROOT / path).is_file(), path


def test_the_units_run_the_program_and_flags_that_exist() -> None:
    assert Path(sys.executable).with_name("tcp-exporter").exists()
    helps = {
        command: output(sys.executable, "-m", "exporter", *([command] if command else []), "--help")
        for command in ("", "dump")
    }
    started = []
    for file in unit_files():
        text = file.read_text(encoding="utf-8")
        for line in re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE):
            started.append(line)
            command = "dump" if " dump " in line else ""
            examples = re.findall(r'^#     ARGS="(.+)"$', text, re.MULTILINE)
            for flag in re.findall(r"--[a-z][a-z.-]+", " ".join([line, *examples])):
                assert flag in helps[command]
    assert started == [
        "/usr/bin/tcp-exporter dump --output /var/lib/prometheus/node-exporter/tcp.prom $ARGS",
        "/usr/bin/tcp-exporter $ARGS",
        "/usr/bin/tcp-exporter --web.systemd-socket $ARGS",
    ]


def test_prometheus_accepts_the_scrape_configuration() -> None:
    promtool = installed("promtool")
    code, said = run(promtool, "check", "config", "deploy/prometheus/scrape.yml")
    assert code == 0, said


def test_the_scrape_interval_is_within_the_peak_window() -> None:
    from exporter.config.fields import parse_duration  # noqa: PLC0415 - only here
    from exporter.config.schema import Config  # noqa: PLC0415

    text = (ROOT / "deploy/prometheus/scrape.yml").read_text(encoding="utf-8")
    (interval,) = re.findall(r"scrape_interval: (\S+)", text)
    assert parse_duration(interval) <= Config().sample.peak_window


def test_the_image_is_made_of_files_that_exist_and_is_not_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for names in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in names.split()]
    assert sorted(f"!{name}" for name in copied) == sorted(line for line in ignored if line.startswith("!"))
    assert [name for name in copied if name != "exporter" and not (ROOT / name).exists()] == []
    assert "USER 65534:65534" in text
    assert 'ENTRYPOINT ["tcp-exporter"]' in text
