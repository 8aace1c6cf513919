"""What a user copies works as it is: the unit, the scrape configuration, the image."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "tcp-exporter.service"
EXPOSURE = "20"  # of systemd-analyze security, times ten: what is left is what the daemon needs


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout


def exec_start() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).split()


def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path) -> None:
    systemd_analyze = installed("systemd-analyze")
    # It wants the program to exist, which is installed on a user's host and perhaps not here.
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    assert text.count(exec_start()[0]) == 1
    copy.write_text(text.replace(exec_start()[0], "/bin/true"), encoding="utf-8")
    assert run(systemd_analyze, "verify", "--man=no", str(copy)) == (0, "")


def test_the_unit_is_as_closed_as_its_comments_say() -> None:
    systemd_analyze = installed("systemd-analyze")
    code, said = run(systemd_analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT))
    assert code == 0, said


def test_the_unit_runs_the_program_and_flags_that_exist() -> None:
    assert exec_start() == ["/usr/bin/tcp-exporter", "$ARGS"]
    assert Path(sys.executable).with_name("tcp-exporter").exists()
    (flag,) = re.findall(r'^#     ARGS="([^="]+)=', UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert flag in run(sys.executable, "-m", "exporter", "--help")[1]


def test_prometheus_accepts_the_scrape_configuration() -> None:
    promtool = installed("promtool")
    code, said = run(promtool, "check", "config", "deploy/prometheus/scrape.yml")
    assert code == 0, said


def test_the_scrape_interval_is_within_the_peak_window() -> None:
    from exporter.config import Config, parse_duration  # noqa: PLC0415 - only here

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
