"""Cgroup paths, and what a person calls their owners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.kernel.cgroup import LONGEST, OUTSIDE, ROOT, Mount, mounts, unit_name

ID = "0123456789abcdef" * 4
UID = "6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f"
UID_ = UID.replace("-", "_")
HASH = "0f343b0931126a20f133d67c2b018a3b"

USER = "/user.slice/user-1000.slice"
MANAGER = f"{USER}/user@1000.service"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/x.service/payload", "x.service"),
        ("/system.slice/x.service/supervisor/worker-3", "x.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/init.scope", "init.scope"),
        ("/system.slice/_cpu.service", "cpu.service"),
        (f"{USER}/session-4.scope", "session-4.scope"),
        (f"{MANAGER}/app.slice/foo.service", "foo.service"),
        (f"{MANAGER}/app.slice/foo.service/inner", "foo.service"),
        (f"{MANAGER}/init.scope", "user@1000.service"),
        (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator", r"machine-qemu\x2d1\x2dvm.scope"),
    ],
)
def test_a_unit_of_systemd_is_the_innermost_and_owns_what_it_makes_below_itself(path: str, name: str) -> None:
    assert unit_name(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/system.slice/docker-{ID}.scope", "docker-0123456789ab"),
        (f"/docker/{ID}", "docker-0123456789ab"),
        (f"/docker/{ID}/init", "docker-0123456789ab"),
        (f"{MANAGER}/user.slice/docker-{ID}.scope", "docker-0123456789ab"),
        (f"/machine.slice/libpod-{ID}.scope", "podman-0123456789ab"),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman-0123456789ab"),
        (f"{MANAGER}/user.slice/libpod-{ID}.scope/container", "podman-0123456789ab"),
        (f"/machine.slice/machine-libpod_pod_{'f' * 64}.slice/libpod-{ID}.scope", "podman-0123456789ab"),
        (f"/libpod_parent/libpod-{ID}", "podman-0123456789ab"),
        (f"/system.slice/nerdctl-{ID}.scope", "nerdctl-0123456789ab"),
        (f"/system.slice/cri-containerd-{ID}.scope", "containerd-0123456789ab"),
        (f"/default/{ID}", "default-0123456789ab"),
        ("/lxc.payload.web", "lxc-web"),
        ("/lxc.payload.my_project_web/system.slice/nginx.service", "lxc-my_project_web"),
        ("/lxc/101/ns/system.slice/nginx.service", "lxc-101"),
        ("/machine.slice/systemd-nspawn@web.service", "systemd-nspawn@web.service"),
        ("/machine.slice/systemd-nspawn@web.service/payload/system.slice/a.service", "systemd-nspawn@web.service"),
    ],
)
def test_a_container_is_called_by_its_runtime_and_short_id_or_its_name(path: str, name: str) -> None:
    assert unit_name(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/docker/{ID}/system.slice/nginx.service", "docker-0123456789ab"),
        (f"/docker/{ID}/docker/{'f' * 64}", "docker-0123456789ab"),
        (f"/system.slice/docker-{ID}.scope/kubelet.slice/kubelet-kubepods-pod{UID_}.slice", "docker-0123456789ab"),
    ],
)
def test_a_container_owns_the_units_and_containers_that_run_in_it(path: str, name: str) -> None:
    assert unit_name(path) == name


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope", UID),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/crio-{ID}.scope", UID),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/docker-{ID}.scope", UID),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice", UID),
        (f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope", UID),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}", UID),
        (f"/kubepods/burstable/pod{UID}/{ID}", UID),
        (f"/kubepods/besteffort/pod{UID}", UID),
        (f"/kubepods/pod{UID}/{ID}/system.slice/nginx.service", UID),
        (f"/kubepods/burstable/pod{HASH}/{ID}", HASH),
    ],
)
def test_a_pod_is_called_by_its_uid_with_dashes_under_every_driver_and_runtime(path: str, uid: str) -> None:
    assert unit_name(path) == f"pod-{uid}"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", ROOT),
        ("", ROOT),
        ("//./", ROOT),
        ("/..", OUTSIDE),
        ("/../..", OUTSIDE),
        ("/../nginx.service", "nginx.service"),
        (f"/../../docker/{ID}", "docker-0123456789ab"),
        (f"/../{ID}", "0123456789ab"),
    ],
)
def test_the_root_is_the_root_and_above_the_own_namespace_is_outside_of_it(path: str, name: str) -> None:
    assert unit_name(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/system.slice", "system.slice"),
        ("/system.slice/sshd.socket", "sshd.socket"),
        ("/payload/worker", "worker"),
        ("/lxc.monitor.web", "lxc.monitor.web"),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "libpod-conmon-0123456789ab.scope"),
        (f"/system.slice/x.service/libpod-payload-{ID}", "x.service"),
        (f"/system.slice/x.service/{ID}", "x.service"),
        ("/docker/0123", "0123"),
        ("/system.slice/podcast.service", "podcast.service"),
        ("/a/" + "x" * 255, "x" * 77 + "..."),
        ("/a/b\nc\x1b[0m", "b?c?[0m"),
        ("/a/\udcff", "?"),
        ("/a/caf\u00e9.service", "caf\u00e9.service"),
        ("/lxc.payload.a\tb", "lxc-a?b"),
    ],
)
def test_anything_else_is_its_last_part_bounded_and_printable(path: str, name: str) -> None:
    assert unit_name(path) == name


PIECES = st.sampled_from(
    [
        *("/", "..", ".", ".service", ".scope", ".slice", "init.scope", "_", ":", "\n", "\x00", "\udc80"),
        *("lxc", "lxc.payload.", "docker", "docker-", "systemd-nspawn@", "pod", "kubepods-"),
        *(ID, ID[:12], UID, UID_, HASH),
    ]
)


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=40).map("".join)))
def test_every_path_has_a_name_that_is_printable_and_neither_empty_nor_long(path: str) -> None:
    name = unit_name(path)
    assert 1 <= len(name) <= LONGEST
    assert name.isprintable()
    assert "/" not in name


def test_only_mounts_of_cgroup_v2_are_read() -> None:
    lines = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n",
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 master:1 - cgroup2 cgroup2 rw\n",
        "42 31 0:38 /../.. /host\\040a\\134b rw - cgroup2 cgroup2 rw\n",
    ]
    assert list(mounts(lines)) == [
        Mount("0:38", "/", "/sys/fs/cgroup/unified"),
        Mount("0:38", "/../..", "/host a\\b"),
    ]


@given(st.lists(st.text()))
def test_a_line_that_is_no_mount_is_passed_over(lines: list[str]) -> None:
    assert all(mount.point is not None for mount in mounts([*lines, "x - cgroup2 y", " - cgroup2 "]))
