"""A release: every place has the same version, the checksums are those of its files, the workflows may do little."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import exporter
from tests.test_deploy import ROOT, output, run

VERSION = exporter.__version__
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def found(path: str, pattern: str) -> set[str]:
    """What the group of *pattern* matches in a file."""
    return set(re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("Dockerfile", r"^ARG VERSION=(.+)$"),
        ("debian/changelog", r"\Atcp-exporter \((.+)-\d+\) "),
        ("deploy/helm/tcp-exporter/Chart.yaml", r"^(?:version|appVersion): (.+)$"),
        ("deploy/kubernetes/base/daemonset.yaml", r"image: tcp-exporter:(.+)$"),
        ("deploy/kubernetes/README.md", r"(?:newTag: |tcp-exporter:|tcp-exporter-)(\d+\.\d+\.\d+)\b"),
    ],
)
def test_every_place_has_the_version_of_the_program(path: str, pattern: str) -> None:
    assert found(path, pattern) == {VERSION}


def test_the_changelog_has_the_version_or_says_what_it_becomes() -> None:
    """Of an unreleased version the first line says which it will be."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, *_ = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    if newest == "Unreleased":
        newest = re.findall(r"^Becomes (\d+\.\d+\.\d+)\b", text, re.MULTILINE)[0]
    assert newest == VERSION


@pytest.mark.e2e
def test_the_manual_pages_have_the_version(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "debian/manpages.py", str(tmp_path)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.glob("*.1"))
    assert len(pages) == 2
    for page in pages:
        assert f'"tcp\\-exporter {VERSION}"' in page.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.e2e
def test_make_knows_the_version() -> None:
    assert output("make", "--silent", "version") == f"{VERSION}\n"


@pytest.mark.e2e
def test_a_release_has_its_files_and_their_checksums(tmp_path: Path) -> None:
    """But the packages and the image, which tests/machine builds."""
    parts = "wheel chart sbom"
    code, said = run("make", "release", f"RELEASE_PARTS={parts}", f"DIST={tmp_path}")
    assert code == 0, said
    folder = tmp_path / "release"
    wheel, sdist = f"tcp_exporter-{VERSION}-py3-none-any.whl", f"tcp_exporter-{VERSION}.tar.gz"
    chart, bill = f"tcp-exporter-{VERSION}.tgz", f"tcp-exporter-{VERSION}.cdx.json"
    assert {path.name for path in folder.iterdir()} == {wheel, sdist, chart, bill, "SHA256SUMS"}
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert sorted(checked.stdout.splitlines()) == sorted(f"{name}: OK" for name in (wheel, sdist, chart, bill))
    with zipfile.ZipFile(folder / wheel) as archive:
        text = archive.read(f"tcp_exporter-{VERSION}.dist-info/METADATA").decode()
    assert f"\nVersion: {VERSION}\n" in text
    with tarfile.open(folder / chart) as packed:
        assert "tcp-exporter/templates/daemonset.yaml" in packed.getnames()


def steps(path: Path) -> list[dict[str, object]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_may_write_only_where_it_publishes(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    used = re.findall(r"uses: (\S+)(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [it for it in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", "".join(it))] == []
    assert set(workflow["permissions"].values()) <= {"read"}
    writing = {name for name, job in workflow["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert writing <= {"publish"}
    for step in steps(path):
        if str(step.get("uses", "")).startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}
        # An event's texts are a stranger's: they reach a shell only as variables.
        assert "${{ github.event" not in str(step.get("run", ""))


def test_the_workflows_run_what_a_developer_runs() -> None:
    commands = {path.name: [str(step.get("run", "")) for step in steps(path)] for path in WORKFLOWS}
    assert "bash .ci/run" in commands["ci.yml"]
    assert "sudo make release" in commands["release.yml"]
