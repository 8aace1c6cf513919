"""The web configuration while the daemon runs: what changes with its files, and what must not."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.web import protection as module
from exporter.web.protection import Protection, load
from exporter.web.webconfig import IF_GIVEN, REQUIRED, WebConfig
from tests.certificates import Authority
from tests.web.test_webconfig import HASH

TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
USERS = f"basic_auth_users: {{me: {HASH}}}\n"


class Log:
    """Keeps the events, in place of the daemon's log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _say(self, level: str, event: str, **more: object) -> None:
        self.lines.append(" ".join([level, event, *(f"{name}={value}" for name, value in more.items())]))

    def info(self, event: str, **more: object) -> None:
        self._say("info", event, **more)

    def warning(self, event: str, **more: object) -> None:
        self._say("warning", event, **more)

    def error(self, event: str, **more: object) -> None:
        self._say("error", event, **more)


class Place:
    """A folder with a certificate and a web configuration, and who watches it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.authority = Authority(folder, "ca")
        self.server = self.authority.issue("server")
        self.file = folder / "web.yml"
        self.file.write_text(text)
        self.log = Log()
        self.watched = Protection(str(self.file), self.log)  # type: ignore[arg-type]  # all that is called of a logger

    def context(self) -> ssl.SSLContext:
        return self.watched.tls().context

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watched.look()


REFUSED = "error web configuration rejected; keeping the previous one error="
RELOADED = "info web configuration reloaded"


def test_nothing_is_read_again_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, TLS + USERS)
    monkeypatch.setattr(module, "load", None)  # a call would fail
    place.look(5)
    assert place.log.lines == []


def test_a_change_is_taken_when_a_whole_look_long_nothing_more_has_changed(tmp_path: Path) -> None:
    place = Place(tmp_path, TLS + USERS)
    before = place.context()
    place.authority.issue("server")
    place.look(1)
    assert place.context() is before
    place.file.write_text(TLS)
    place.look(1)
    assert place.context() is before
    place.file.write_text(TLS + USERS.replace("me", "you"))
    place.look(1)
    assert place.log.lines == []
    place.look(1)
    assert place.context() is not before
    assert (dict(place.watched.config.basic_auth_users), place.log.lines) == ({"you": HASH}, [RELOADED])
    place.look(5)
    assert place.log.lines == [RELOADED]


def test_a_certificate_without_its_key_is_refused_once_and_the_pair_before_it_stays(tmp_path: Path) -> None:
    place = Place(tmp_path, TLS)
    before = place.context()
    fresh = place.authority.issue("fresh")
    place.server.cert.write_bytes(fresh.cert.read_bytes())
    place.look(5)
    refused = f"{REFUSED}{place.file}:1:44: tls_server_config.key_file: the key is not the certificate's"
    assert (place.context() is before, place.watched.successful, place.log.lines) == (True, False, [refused])
    place.server.key.write_bytes(fresh.key.read_bytes())
    place.look(2)
    assert (place.context() is before, place.watched.successful, place.log.lines) == (False, True, [refused, RELOADED])


def test_a_file_that_a_broken_configuration_names_mends_it_when_it_comes(tmp_path: Path) -> None:
    place = Place(tmp_path, TLS)
    place.file.write_text(TLS.replace("server.", "later."))
    place.look(3)
    assert (place.watched.successful, len(place.log.lines)) == (False, 2)
    place.authority.issue("later")
    place.look(2)
    assert (place.watched.successful, place.log.lines[-1]) == (True, RELOADED)


def test_every_mistake_of_a_broken_file_is_said_and_mending_it_is_taken(tmp_path: Path) -> None:
    place = Place(tmp_path, USERS)
    place.file.write_text("basic_auth_users: {me: secret}\nmore: 1\n")
    place.look(9)
    hint = "expected a bcrypt hash of 60 characters, as $2y$10$..., made by `htpasswd -nBC 10 USER`"
    known = "unknown key; known are tls_server_config, basic_auth_users, rate_limit, http_server_config"
    said = [f"{REFUSED}{place.file}:1:24: basic_auth_users.me: {hint}", f"{REFUSED}{place.file}:2:1: more: {known}"]
    assert (place.log.lines, dict(place.watched.config.basic_auth_users)) == (said, {"me": HASH})
    place.file.unlink()
    place.look(2)
    assert place.log.lines[2:] == [f"{REFUSED}{place.file}: cannot be read: No such file or directory"]
    place.file.write_text(USERS)
    place.look(2)
    assert (place.watched.successful, place.log.lines[3:]) == (True, [RELOADED])


def test_a_reload_never_takes_protection_away(tmp_path: Path) -> None:
    place = Place(tmp_path, TLS + USERS)
    before = place.context()
    place.file.write_text("")
    place.look(2)
    assert (place.context() is before, dict(place.watched.config.basic_auth_users)) == (True, {"me": HASH})
    assert place.log.lines == [
        "warning TLS switched on or off on disk; restart to apply key=tls_server_config",
        "warning authentication switched off on disk; restart to apply key=basic_auth_users",
        RELOADED,
    ]


CLIENTS = TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}")
NAMED = CLIENTS.replace("}", ", client_allowed_sans: [a.example, b.example]}")
ANYONE = "warning client certificates not required on disk; restart to apply key=client_auth_type"
NO_TLS = "warning TLS switched on or off on disk; restart to apply key=tls_server_config"
UNNAMED = "warning names of clients not listed on disk; restart to apply key=client_allowed_sans"


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        (CLIENTS, {"a.example", "b.example"}, [UNNAMED, RELOADED]),
        (NAMED.replace("[a.example, b.example]", ""), {"a.example", "b.example"}, [UNNAMED, RELOADED]),
        (TLS, {"a.example", "b.example"}, [ANYONE, RELOADED]),
        (CLIENTS.replace(REQUIRED, IF_GIVEN), {"a.example", "b.example"}, [ANYONE, RELOADED]),
        ("", {"a.example", "b.example"}, [NO_TLS, RELOADED]),
        (NAMED.replace("client_ca_file: ca.pem, ", ""), {"a.example", "b.example"}, None),
        (NAMED.replace("[a.example, b.example]", "[]"), {"a.example", "b.example"}, None),
        (NAMED.replace("a.example, ", ""), {"b.example"}, [RELOADED]),
    ],
)  # fmt: skip
def test_a_reload_admits_no_client_that_nobody_lists(
    tmp_path: Path, text: str, names: set[str], said: list[str] | None
) -> None:
    """*said* is None where the file has a mistake, which leaves everything as it was."""
    place = Place(tmp_path, NAMED)
    place.file.write_text(text)
    place.look(2)
    assert place.watched.tls().clients == (REQUIRED, place.authority.cert.read_bytes(), frozenset(names))
    if said is None:
        assert [line.startswith(REFUSED) for line in place.log.lines] == [True]
    else:
        assert place.log.lines == said


def test_names_that_a_reload_keeps_do_not_keep_the_old_certificate(tmp_path: Path) -> None:
    place = Place(tmp_path, NAMED)
    before = place.context()
    place.file.write_text(CLIENTS)
    place.authority.issue("server")
    place.look(2)
    assert (place.context() is before, place.watched.tls().allowed_sans) == (
        False,
        frozenset({"a.example", "b.example"}),
    )


@pytest.mark.parametrize("late", ["mistakes", "good"])
def test_what_a_watcher_finds_after_it_was_given_up_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Its file hung, another thread watches, and the disk answers at last, with what the file was before."""
    place = Place(tmp_path, USERS)
    hangs, answers = threading.Event(), threading.Event()

    def hanging(path: str, seen: Callable[[str], None]) -> WebConfig:
        hangs.set()
        assert answers.wait(60)
        seen("of the past")
        if late == "mistakes":
            raise ConfigError(["of the past"])
        return WebConfig()

    with monkeypatch.context() as patch:
        patch.setattr(module, "load", hanging)
        abandoned = threading.Thread(target=place.watched.watch, daemon=True)
        abandoned.start()
        place.watched.ask()
        assert hangs.wait(60)
    assert place.watched.reading_since is not None
    place.file.write_text(USERS.replace("me", "you"))
    threading.Thread(target=place.watched.watch, daemon=True).start()
    place.watched.ask()
    until(lambda: place.log.lines == [RELOADED])
    answers.set()
    abandoned.join(60)
    assert not abandoned.is_alive()
    assert (dict(place.watched.config.basic_auth_users), place.watched.successful) == ({"you": HASH}, True)
    assert place.log.lines == [RELOADED]
    place.file.write_text(USERS)  # and its changes are still seen
    until(lambda: dict(place.watched.config.basic_auth_users) == {"me": HASH})
    assert place.log.lines == [RELOADED, RELOADED]
    place.watched._watcher = None  # ends the thread


def until(found: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_authentication_can_be_switched_on_and_tls_waits(tmp_path: Path) -> None:
    place = Place(tmp_path, "")
    place.file.write_text(TLS + USERS)
    place.look(2)
    assert (place.watched.config.tls_server_config, dict(place.watched.config.basic_auth_users)) == (None, {"me": HASH})
    assert place.log.lines[0] == "warning TLS switched on or off on disk; restart to apply key=tls_server_config"


def test_a_link_that_is_turned_to_another_folder_is_a_change(tmp_path: Path) -> None:
    """How Kubernetes changes a mounted secret."""
    for name in ("one", "two"):
        Authority(tmp_path / name, "ca").issue("server")
    (tmp_path / "data").symlink_to("one")
    place = Place(tmp_path, TLS.replace("server.", "data/server."))
    before = place.context()
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    place.look(2)
    assert place.context() is not before


def test_a_file_that_is_too_large_is_refused_and_not_cut(tmp_path: Path) -> None:
    """What stands behind the limit would be missing without a word: here an authority."""
    place = Place(tmp_path, TLS)
    bundle = (tmp_path / "ca.pem").read_text()
    (tmp_path / "all.pem").write_text(bundle + ("#" * 1023 + "\n") * 1024 + bundle)
    place.file.write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: all.pem, "
        "client_auth_type: RequireAndVerifyClientCert}\n"
    )
    with pytest.raises(ConfigError, match="cannot be read: it is larger than 1048576 bytes"):
        load(str(place.file))
