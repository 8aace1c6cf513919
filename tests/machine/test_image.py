"""The container image: built from the Dockerfile on a Debian, run by Podman as the documentation says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import __version__
from release import address
from tests.e2e.conftest import wait_for
from tests.machine.conftest import REPOSITORY, debian, need
from tests.machine.documented import blocks
from tests.machine.engine import Engine
from tests.machine.root import CERTIFICATES, SUITES

pytestmark = pytest.mark.e2e
COMPOSE = [
    str(Path(sys.executable).with_name("podman-compose")),
    "--in-pod=false",  # a pod would need cgroups
    f"--file={REPOSITORY}/deploy/docker/compose.yml",
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make image` puts the image of a release."""
    return tmp_path_factory.mktemp("image") / f"tcp-exporter-{__version__}-image.tar.gz"


@pytest.fixture(scope="module")
def engine(pytestconfig: pytest.Config, pip_settings: Path, archive: Path) -> Iterator[Engine]:
    """Podman with the image of `make image`. Its base is our own Debian: there is no registry to pull a public one."""
    need("podman", "crun", "nsenter", "unshare", "ip", as_root=True)
    with Engine() as engine:
        engine.podman("import", "--quiet", str(debian(pytestconfig, SUITES[0])), "base")
        arguments = (
            "--quiet", "--isolation=chroot", "--build-arg=BASE=localhost/base",
            f"--volume={pip_settings}:/etc/pip.conf:ro", f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
        )  # fmt: skip
        engine.enter(
            "make", f"--directory={REPOSITORY}", "image", f"DIST={archive.parent}", "REVISION=abc123",
            f"IMAGE_ARGS={' '.join(arguments)}", network=True,
        )  # fmt: skip
        engine.podman("tag", f"tcp-exporter:{__version__}", "tcp-exporter")
        yield engine


def documented_run() -> list[str]:
    """The arguments of `docker run` in docs/install.md."""
    (line,) = (line for block in blocks("As a container") for line in block if line.startswith("docker run "))
    return shlex.split(line)[1:]


@pytest.fixture
def container(engine: Engine) -> Iterator[Engine]:
    """Podman with the container as documented, ready; the container's name is tcp-exporter."""
    engine.podman(*documented_run())
    ready(engine, "tcp-exporter")
    yield engine
    engine.podman("rm", "--force", "tcp-exporter")


def ready(engine: Engine, name: str) -> None:
    wait_for(lambda: engine.get("/-/ready")[0] == 200 or None, f"readiness of {name}: {engine.podman('logs', name)}")


def inspect(engine: Engine, what: str, name: str, path: str) -> object:
    """A part of what podman knows of an image or a container."""
    return json.loads(engine.podman(what, "inspect", "--format", f"{{{{json {path}}}}}", name))


def test_the_image_says_what_it_is(engine: Engine) -> None:
    assert inspect(engine, "image", "tcp-exporter", ".Config.Labels") == {
        "io.buildah.version": inspect(engine, "image", "tcp-exporter", '(index .Config.Labels "io.buildah.version")'),
        "org.opencontainers.image.authors": "tcp-exporter maintainers",
        "org.opencontainers.image.title": "tcp-exporter",
        "org.opencontainers.image.description": "TCP health of a Linux host: socket counts per state and the sysctls "
        "behind them, for Prometheus and Nagios",
        "org.opencontainers.image.url": address.BASE,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.revision": "abc123",
    }
    assert inspect(engine, "image", "tcp-exporter", ".Config.User") == "65534:65534"
    assert inspect(engine, "image", "tcp-exporter", ".Config.Entrypoint") == ["tcp-exporter"]
    assert inspect(engine, "image", "tcp-exporter", ".Config.ExposedPorts") == {"19293/tcp": {}}
    check = inspect(engine, "image", "tcp-exporter", ".HealthCheck")
    assert isinstance(check, dict)
    assert check["Test"] == ["CMD", "tcp-exporter", "healthcheck"]


def test_the_archive_of_a_release_is_the_image(engine: Engine, archive: Path) -> None:
    """By a pipe, as deploy/kubernetes/README.md has it: podman 4.3 does not load a file that is compressed."""
    _, said = engine.enter("sh", "-c", f"gunzip -c {archive} | podman load --quiet")
    assert said == f"Loaded image: localhost/tcp-exporter:{__version__}\n"
    loaded, built = (inspect(engine, "image", f"tcp-exporter:{tag}", ".ID") for tag in (__version__, "latest"))
    assert loaded == built


def test_the_image_has_the_plugin_and_no_installer(engine: Engine) -> None:
    run = ("run", "--rm", "--network=host", "--read-only")
    assert engine.podman(*run, "--entrypoint=check_tcp_states", "tcp-exporter").startswith("TCP STATES OK: ")
    code, _ = engine.enter(
        "podman", *run, "--entrypoint=/opt/tcp-exporter/bin/python", "tcp-exporter", "-c", "import pip", check=False
    )
    assert code == 1


def test_the_container_has_no_rights_writes_nothing_and_serves_what_the_kernel_has(container: Engine) -> None:
    status, page = container.get("/metrics")
    assert status == 200
    assert 'tcp_connections{state="listen"} 1.0\n' in page
    assert 'tcp_exporter_reader_info{reader="netlink"} 1.0\n' in page

    pid = inspect(container, "container", "tcp-exporter", ".State.Pid")
    process = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    assert re.findall(r"^[UG]id:\t(.+)$", process, re.MULTILINE) == ["65534\t65534\t65534\t65534"] * 2
    assert re.findall(r"^Cap(?:Eff|Prm|Bnd|Amb):\t(\w+)$", process, re.MULTILINE) == ["0000000000000000"] * 4
    assert "\nNoNewPrivs:\t1\n" in process
    mounts = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")
    assert re.findall(r"^\d+ \d+ \S+ \S+ / (\w+)", mounts, re.MULTILINE) == ["ro"]


def test_the_health_check_tells_a_daemon_that_answers_from_one_that_does_not(container: Engine) -> None:
    check = ("podman", "healthcheck", "run", "tcp-exporter")
    assert container.enter(*check)[0] == 0
    container.podman("kill", "--signal=STOP", "tcp-exporter")
    assert container.enter(*check, check=False)[0] == 1
    container.podman("kill", "--signal=CONT", "tcp-exporter")


def test_a_stopped_container_ended_by_itself(container: Engine) -> None:
    """SIGTERM as process 1, for which the kernel has no default."""
    container.podman("stop", "--time=30", "tcp-exporter")
    assert inspect(container, "container", "tcp-exporter", ".State.ExitCode") == 0


def test_the_compose_file_runs_the_image_as_closed(engine: Engine) -> None:
    need(COMPOSE[0])
    engine.enter(*COMPOSE, "up", "--detach", "--no-build")
    try:
        (name,) = engine.podman("ps", "--format", "{{.Names}}").split()
        ready(engine, name)
        pid = inspect(engine, "container", name, ".State.Pid")
        process = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        assert re.findall(r"^Uid:\t(\d+)", process, re.MULTILINE) == ["65534"]
        assert re.findall(r"^CapBnd:\t(\w+)$", process, re.MULTILINE) == ["0000000000000000"]
        assert "\nNoNewPrivs:\t1\n" in process
        assert inspect(engine, "container", name, ".HostConfig.ReadonlyRootfs") is True
        assert inspect(engine, "container", name, ".HostConfig.NetworkMode") == "host"
        assert engine.enter("podman", "healthcheck", "run", name)[0] == 0
        assert "/etc/tcp-exporter.yml: valid" in engine.podman(
            "exec", name, "tcp-exporter", "check-config", "/etc/tcp-exporter.yml"
        )
    finally:
        engine.enter(*COMPOSE, "down")
