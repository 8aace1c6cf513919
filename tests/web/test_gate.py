"""What stands before every request: the rate limit with a clock of its own, and passwords with real bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.gate import Bucket, Gate
from exporter.web.http import Request, Response, plain_text
from exporter.web.passwords import Admission, Passwords, check, credentials
from exporter.web.webconfig import HttpServer, RateLimit, WebConfig


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def basic(user: str, password: bytes) -> str:
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode()


USERS = {"me": hashed(b"right"), "you": hashed(b"other")}


class Checking:
    """Counts what is really checked, and can be made to hang."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, password: bytes, stored: bytes) -> bool:
        self.go.wait(120)
        self.asked.append((password, stored))
        return check(password, stored)


@pytest.fixture
def checking() -> Checking:
    return Checking()


@pytest.fixture
def passwords(checking: Checking) -> Iterator[Passwords]:
    made = Passwords(checking)
    yield made
    checking.go.set()
    made.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


# -- passwords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "admission"),
    [
        (basic("me", b"right"), Admission.ADMITTED),
        (basic("me", b"right").replace("Basic", "bAsIc  "), Admission.ADMITTED),
        (basic("you", b"other"), Admission.ADMITTED),
        (basic("me", b"other"), Admission.REFUSED),
        (basic("ME", b"right"), Admission.REFUSED),
        (basic("", b"right"), Admission.REFUSED),
        (basic("me", b""), Admission.REFUSED),
        (basic("me", b"right\0"), Admission.REFUSED),
        (None, Admission.REFUSED),
        ("", Admission.REFUSED),
        ("Basic", Admission.REFUSED),
        ("Basic bWU=", Admission.REFUSED),
        ("Basic \xe9", Admission.REFUSED),
        ("Bearer " + basic("me", b"right").removeprefix("Basic "), Admission.REFUSED),
        (basic("me", b"right") + ", " + basic("me", b"right"), Admission.REFUSED),
    ],
)
def test_only_a_known_user_with_the_right_password_comes_in(
    passwords: Passwords, header: str | None, admission: Admission
) -> None:
    async def scenario() -> None:
        assert [await passwords.judge(header, USERS) for _ in range(2)] == [admission] * 2

    run(scenario)


def test_a_password_is_as_long_as_bcrypt_makes_it(passwords: Passwords) -> None:
    """The C implementations look at 72 bytes, and bcrypt 5 would raise."""

    async def scenario() -> None:
        users = {"me": hashed(b"x" * 72)}
        assert await passwords.judge(basic("me", b"x" * 300), users) is Admission.ADMITTED
        assert await passwords.judge(basic("me", b"x" * 71), users) is Admission.REFUSED

    run(scenario)


def test_the_same_is_checked_once_whether_right_or_wrong(passwords: Passwords, checking: Checking) -> None:
    async def scenario() -> None:
        for _ in range(5):
            assert await passwords.judge(basic("me", b"right"), USERS) is Admission.ADMITTED
            assert await passwords.judge(basic("me", b"wrong"), USERS) is Admission.REFUSED
        assert [password for password, _ in checking.asked] == [b"right", b"wrong"]

    run(scenario)


def test_a_changed_hash_is_checked_anew(passwords: Passwords) -> None:
    async def scenario() -> None:
        assert await passwords.judge(basic("me", b"right"), USERS) is Admission.ADMITTED
        assert await passwords.judge(basic("me", b"right"), {"me": hashed(b"new")}) is Admission.REFUSED
        assert await passwords.judge(basic("me", b"right"), {"you": USERS["me"]}) is Admission.REFUSED

    run(scenario)


def test_an_unknown_user_costs_a_check_of_one_and_the_same_known_hash(passwords: Passwords, checking: Checking) -> None:
    async def scenario() -> None:
        for number in range(20):
            for password in (b"right", b"other"):
                assert await passwords.judge(basic(f"nobody{number}", password), USERS) is Admission.REFUSED
        used = [stored for _, stored in checking.asked]
        assert len(used) == 40
        assert used[::2] == used[1::2]
        assert set(used) == {text.encode() for text in USERS.values()}

    run(scenario)


def test_a_flood_from_one_address_makes_room_for_an_unknown_password_from_another(
    passwords: Passwords, checking: Checking
) -> None:
    async def scenario() -> None:
        checking.go.clear()
        flood = [
            asyncio.create_task(passwords.judge(basic("me", b"%d" % number), USERS, "192.0.2.66"))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        right = asyncio.create_task(passwords.judge(basic("me", b"right"), USERS, "192.0.2.1"))
        more = [
            asyncio.create_task(passwords.judge(basic("me", b"more%d" % number), USERS, "192.0.2.66"))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        checking.go.set()
        assert await right is Admission.ADMITTED
        counts = Counter([await task for task in (*flood, *more)])
        assert counts == {Admission.REFUSED: 15, Admission.BUSY: 85}
        assert (passwords._waiting, passwords._sent_away) == ({}, set())

    run(scenario)


def test_a_flood_of_wrong_passwords_neither_delays_nor_evicts_a_right_one(
    passwords: Passwords, checking: Checking
) -> None:
    async def scenario() -> None:
        assert await passwords.judge(basic("me", b"right"), USERS) is Admission.ADMITTED
        for number in range(250):
            assert await passwords.judge(basic("me", b"wrong%d" % number), USERS) is Admission.REFUSED
        checking.go.clear()
        flood = [asyncio.create_task(passwords.judge(basic("me", b"%d" % number), USERS)) for number in range(300)]
        await asyncio.sleep(0)
        assert await passwords.judge(basic("me", b"right"), USERS) is Admission.ADMITTED
        sent_away = [task for task in flood if task.done()]
        assert [task.result() for task in sent_away] == [Admission.BUSY] * 284
        checking.go.set()
        assert [await task for task in flood if task not in sent_away] == [Admission.REFUSED] * 16
        assert len(passwords._wrong._keys) == 100
        assert len(passwords._right._keys) == 1

    run(scenario)


def test_no_password_is_kept_in_what_is_remembered(passwords: Passwords) -> None:
    async def scenario() -> None:
        await passwords.judge(basic("me", b"right"), USERS)
        [key] = passwords._right._keys
        assert (len(key), b"right" in key) == (32, False)

    run(scenario)


@given(st.text())
def test_any_header_has_credentials_or_none(header: str) -> None:
    found = credentials(header)
    assert found is None or b":" not in found[0]


# -- the rate limit ----------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_at_once_and_then_a_token_each_interval() -> None:
    bucket = Bucket(RateLimit(0.5, 2), now=10.0)
    given_at = [bucket.take(at) for at in (10.0, 10.0, 10.0, 10.4, 10.6, 10.6, 11.1, 99.0, 99.0, 99.0)]
    assert given_at == [True, True, False, False, True, False, True, True, True, False]


def test_an_interval_of_0_is_no_limit() -> None:
    bucket = Bucket(RateLimit(0.0, 0), now=10.0)
    assert [bucket.take(10.0) for _ in range(100)] == [True] * 100


# -- the gate ----------------------------------------------------------------------------------------------------------


class World:
    """A gate, what is in force behind it, and its clock."""

    def __init__(self, passwords: Passwords) -> None:
        self.config = WebConfig()
        self.now = 0.0
        self.gate = Gate(lambda: self.config, passwords, lambda: self.now)

    async def get(self, path: str = "/", header: str | None = None) -> Response:
        def handler(request: Request) -> Response:
            return plain_text(200, request.path, ("X-Frame-Options", "deny"))

        headers = {} if header is None else {"authorization": header}
        return await self.gate(Request("GET", path, "", headers), handler)


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/snapshot", "/nowhere"])
def test_every_path_needs_the_password(passwords: Passwords, path: str) -> None:
    async def scenario() -> None:
        world = World(passwords)
        world.config = WebConfig(basic_auth_users=USERS)
        assert await world.get(path) == plain_text(401, None, ("WWW-Authenticate", "Basic"))
        assert (await world.get(path, basic("me", b"right"))).status == 200

    run(scenario)


def test_the_rate_limit_comes_before_the_password(passwords: Passwords, checking: Checking) -> None:
    async def scenario() -> None:
        world = World(passwords)
        world.config = WebConfig(basic_auth_users=USERS, rate_limit=RateLimit(1.0, 1))
        assert (await world.get("/", basic("me", b"right"))).status == 200
        assert await world.get("/", basic("me", b"wrong")) == plain_text(429)
        assert len(checking.asked) == 1
        world.now += 1.0
        assert (await world.get("/", basic("me", b"right"))).status == 200

    run(scenario)


def test_a_reload_keeps_the_bucket_unless_its_limit_changes(passwords: Passwords) -> None:
    async def scenario() -> None:
        world = World(passwords)
        world.config = WebConfig(rate_limit=RateLimit(1.0, 1))
        assert (await world.get()).status == 200
        world.config = WebConfig(rate_limit=RateLimit(1.0, 1))
        assert (await world.get()).status == 429
        world.config = WebConfig(rate_limit=RateLimit(1.0, 2))
        assert (await world.get()).status == 200

    run(scenario)


def test_headers_go_on_every_answer_and_the_answers_own_are_stronger(passwords: Passwords) -> None:
    async def scenario() -> None:
        world = World(passwords)
        headers = {"X-Frame-Options": "sameorigin", "X-Content-Type-Options": "nosniff"}
        world.config = WebConfig(http_server_config=HttpServer(headers=headers), basic_auth_users=USERS)
        assert (await world.get()).headers == (("WWW-Authenticate", "Basic"), *headers.items())
        assert (await world.get("/", basic("me", b"right"))).headers == (
            ("X-Frame-Options", "deny"),
            ("X-Content-Type-Options", "nosniff"),
        )

    run(scenario)


def test_too_many_unknown_passwords_are_told_to_come_again(passwords: Passwords, checking: Checking) -> None:
    async def scenario() -> None:
        world = World(passwords)
        world.config = WebConfig(basic_auth_users=USERS)
        checking.go.clear()
        waiting = [asyncio.create_task(world.get("/", basic("me", b"%d" % number))) for number in range(16)]
        await asyncio.sleep(0)
        assert await world.get("/", basic("me", b"right")) == plain_text(503, None, ("Retry-After", "1"))
        checking.go.set()
        assert {(await task).status for task in waiting} == {401}
        assert (await world.get("/", basic("me", b"right"))).status == 200

    run(scenario)
