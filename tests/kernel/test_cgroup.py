"""Cgroup paths, and what a person calls their owners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.kernel.cgroup import LONGEST, OUTSIDE, RESERVED, ROOT, Mount, labels, mounts, owner, unit_name

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
        (f"{MANAGER}/app.slice/foo.service", "user@1000.service/foo.service"),
        (f"{MANAGER}/app.slice/foo.service/inner", "user@1000.service/foo.service"),
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
        (f"{MANAGER}/user.slice/docker-{ID}.scope", "user@1000.service/docker-0123456789ab"),
        (f"/machine.slice/libpod-{ID}.scope", "podman-0123456789ab"),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman-0123456789ab"),
        (f"{MANAGER}/user.slice/libpod-{ID}.scope/container", "user@1000.service/podman-0123456789ab"),
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
        ("/payload/worker", "/payload/worker"),
        ("/lxc.monitor.web", "lxc.monitor.web"),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "libpod-conmon-0123456789ab.scope"),
        (f"/system.slice/x.service/libpod-payload-{ID}", "x.service"),
        (f"/system.slice/x.service/{ID}", "x.service"),
        ("/docker/0123", "/docker/0123"),
        ("/system.slice/podcast.service", "podcast.service"),
        ("/a.slice/" + "x" * 255, "x" * 77 + "..."),
        ("/a.slice/b\nc\x1b[0m", "b?c?[0m"),
        ("/a.slice/\udcff", "?"),
        ("/a.slice/caf\u00e9.service", "caf\u00e9.service"),
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
    assert name not in RESERVED or owner(path).path in {"/", "/.."}


@given(st.lists(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=10).map("".join), max_size=10))
def test_no_two_owners_share_a_label_in_whatever_order_they_come(paths: list[str]) -> None:
    owners = [owner(path) for path in paths]
    shown = labels(owners)
    assert shown == labels(reversed(owners))
    assert len(set(shown.values())) == len({owned.path for owned in owners})
    assert all(1 <= len(label) <= LONGEST and label.isprintable() for label in shown.values())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{MANAGER}/app.slice/nginx.service", "user@1000.service/nginx.service"),
        (f"{MANAGER}/app.slice/kubepods-pod{UID_}.slice", f"user@1000.service/pod-{UID}"),
        (f"{MANAGER}/app.slice/x.service/docker/{ID}", "user@1000.service/x.service/docker-0123456789ab"),
        (f"{MANAGER}/lxc.payload.web", "user@1000.service/lxc-web"),
        (f"{MANAGER}/systemd-nspawn@web.service", "user@1000.service/systemd-nspawn@web.service"),
        (f"{MANAGER}/other", "user@1000.service"),
        (f"{USER}/docker/{ID}", "user-1000.slice/docker-0123456789ab"),
        (f"{USER}/session-4.scope/nginx.service", "session-4.scope/nginx.service"),
        ("/system.slice/x.service/nginx.service", "x.service/nginx.service"),
        (f"/system.slice/x.service/kubepods/pod{UID}", f"x.service/pod-{UID}"),
        ("/mine/nginx.service", "nginx.service"),  # only root makes a cgroup there; beside the system's it has its path
        ("/mine/docker-0123456789ab", "/mine/docker-0123456789ab"),
    ],
)
def test_what_a_user_may_have_named_says_whose_it_is_and_passes_for_nothing_else(path: str, name: str) -> None:
    assert unit_name(path) == name


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_cgroup_that_is_called_like_a_label_of_ours_is_shown_by_its_path(name: str) -> None:
    assert (unit_name(f"/{name}"), unit_name(f"/a.slice/{name}")) == (f"/{name}", f"/a.slice/{name}")


def test_units_of_one_name_are_told_apart_and_the_systems_keeps_it() -> None:
    paths = [
        "/a.slice/nginx.service",
        "/system.slice/nginx.service",
        f"{MANAGER}/app.slice/nginx.service",
        f"{MANAGER}/background.slice/nginx.service",
        "/user.slice/user-1001.slice/user@1001.service/app.slice/nginx.service",
    ]
    assert labels(map(owner, paths)) == {
        paths[0]: "/a.slice/nginx.service",
        paths[1]: "nginx.service",
        paths[2]: "user@1000.service/nginx.service",
        paths[3]: f"{MANAGER}/background.slice/nginx.service",
        paths[4]: "user@1001.service/nginx.service",
    }


def test_names_that_are_alike_once_cut_or_made_printable_are_told_apart_by_a_digest() -> None:
    paths = [f"/system.slice/{'x' * 100}{end}.service" for end in "ab"] + ["/a.slice/\x1b", "/a.slice/\x1c"]
    shown = labels(map(owner, paths))
    assert [shown[path].partition("~")[0] for path in paths] == [
        "x" * 77 + "...",
        f"/system.slice/{'x' * 49}",
        "?",
        "/a.slice/?",
    ]
    assert len(set(shown.values())) == 4


def test_the_containers_of_a_pod_and_what_a_unit_makes_below_itself_have_one_owner() -> None:
    pod = f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice"
    assert {owner(f"{pod}:cri-containerd:{container * 64}").path for container in "ab"} == {pod}
    assert {owner(f"/system.slice/a.service{below}").path for below in ("", "/x", "/y/z")} == {
        "/system.slice/a.service"
    }
    assert owner(f"{MANAGER}/init.scope").path == MANAGER


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


def test_a_unit_outside_of_systemds_slices_keeps_its_name_unless_the_system_has_it() -> None:
    by_hand, inner = owner("/case/sibling.service"), owner("/case/ctr.scope/inner.service")
    assert (by_hand.name, inner.name) == ("sibling.service", "inner.service")
    systems = owner("/system.slice/sibling.service")
    assert labels([by_hand, systems]) == {by_hand.path: by_hand.path, systems.path: "sibling.service"}
