"""What runs, builds, tests and releases the program is installed by hash, and the bill of materials has all of it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import __version__
from release import audit, lock
from tests.test_deploy import run

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
BUILDS = ("Makefile", "Dockerfile", "debian/rules", ".ci/run", "docs/install.md")


def locked(name: str) -> tuple[lock.Locked, ...]:
    return lock.parse((ROOT / name).read_text(encoding="utf-8"))


def pyproject() -> dict[str, dict[str, list[object]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_of_a_lock_has_a_hash_and_nothing_is_built_from_source(name: str) -> None:
    assert [it for it in locked(name) if not it.sha256] == []
    assert locked(name)
    assert (ROOT / name).read_text(encoding="utf-8").startswith("--only-binary :all:\n\n")


def test_a_lock_with_a_line_that_pip_would_not_check_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"h11>=0\.16"):
        lock.parse("h11>=0.16\n")
    assert lock.parse("h11==0.16.0\n") == (lock.Locked("h11", "0.16.0", "", (), ()),)


def test_the_locks_agree_on_the_version_of_what_they_share() -> None:
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for it in locked(name):
            versions.setdefault(it.name, set()).add(it.version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_build_lock_has_the_backend_that_pyproject_names() -> None:
    required = pyproject()["build-system"]["requires"]
    assert set(required) <= set(pyproject()["dependency-groups"]["build"])
    assert set(required) <= {f"{it.name}=={it.version}" for it in locked("requirements-build.lock")}


def installs(name: str) -> Iterator[str]:
    """Every command of a file that has pip install or build something; continued lines are one command."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        text = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    text = re.sub(r"\s*\\\n\s*", " ", text)
    for line in text.splitlines():
        for command in re.split(r" && |(?<=\))\s*\|\| ", line):
            if re.search(r"\bpip['\"]? (?:install|wheel)\b|\$\(PIP\) install|\$\(LOCKED\) ", command):
                yield command if "$(LOCKED)" not in command else f"--require-hashes {command}"


def by_hash(command: str) -> bool:
    """Whether pip takes nothing from an index without a hash: a lock, or this tree by a backend that is there."""
    built = "--no-build-isolation" in command or command.endswith(".whl")
    return "--require-hashes" in command or ("--no-deps" in command and built)


@pytest.mark.parametrize("name", BUILDS)
def test_every_build_installs_by_hash(name: str) -> None:
    commands = list(installs(name))
    assert commands
    assert [command for command in commands if not by_hash(command)] == []


def test_an_install_without_hashes_is_noticed() -> None:
    assert not by_hash("pip install uv")
    assert not by_hash("pip install --no-deps .")
    assert by_hash("pip install --no-build-isolation --no-deps .")


# -- the bill of materials ---------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_bill_of_materials_has_every_library_with_the_hashes_that_pip_checks(tmp_path: Path) -> None:
    code, said = run("make", "--silent", "sbom", f"DIST={tmp_path}")
    assert code == 0, said
    bill = json.loads((tmp_path / f"tcp-exporter-{__version__}.cdx.json").read_text(encoding="utf-8"))
    libraries = locked("requirements.lock")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == __version__
    assert {
        it["name"]: (it["version"], {found["content"] for found in it["externalReferences"][0]["hashes"]})
        for it in bill["components"]
    } == {it.name: (it.version, set(it.sha256)) for it in libraries}
    assert all(it["licenses"] for it in bill["components"])
    (root,) = [it for it in bill["dependencies"] if it["ref"] == f"pkg:pypi/tcp-exporter@{__version__}"]
    assert set(root["dependsOn"]) == {f"pkg:pypi/{it.name}@{it.version}" for it in libraries}


# -- the audit ---------------------------------------------------------------------------------------------------------


def test_a_package_that_was_not_looked_up_is_no_pass() -> None:
    answer = {
        "dependencies": [
            {"name": "h11", "version": "0.16.0", "vulns": []},
            {"name": "bcrypt", "skip_reason": "Dependency not found on PyPI"},
        ]
    }
    assert audit.judge(json.dumps(answer), "No known vulnerabilities found") == ((), "1 of 2 packages: bcrypt")


def test_a_vulnerability_names_the_version_that_mends_it() -> None:
    found = {"id": "CVE-2025-43859", "fix_versions": ["0.16.0"], "aliases": [], "description": "chunks"}
    answer = {"dependencies": [{"name": "h11", "version": "0.14.0", "vulns": [found]}]}
    assert audit.judge(json.dumps(answer), "") == (("h11 0.14.0: CVE-2025-43859, fixed in 0.16.0",), "")


def test_no_answer_is_no_pass() -> None:
    assert audit.judge("", "") == ((), "pip-audit printed nothing")
