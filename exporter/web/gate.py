"""The middleware before every handler: the rate limit, then authentication, as exporter-toolkit has them.

Headers of the web configuration go on every answer, refusals included. The configuration is looked up for each request,
so a reload takes effect between two requests.
"""

from __future__ import annotations

from collections.abc import Callable

from exporter.web.http import Handler, Request, Response, place_of, plain_text
from exporter.web.passwords import Admission, Passwords
from exporter.web.webconfig import RateLimit, WebConfig


class Bucket:
    """A token bucket: full at first, one token each interval, never more than the burst. *now* is in seconds."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether there was a token; it is gone then."""
        if self.limit.interval <= 0:
            return True
        self._tokens = min(self.limit.burst, self._tokens + (now - self._at) / self.limit.interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Gate:
    """Passes a request on to its handler, or answers it: 429 above the rate limit, 401 without valid credentials."""

    def __init__(self, config: Callable[[], WebConfig], passwords: Passwords, clock: Callable[[], float]) -> None:
        self._config = config
        self._passwords = passwords
        self._clock = clock
        self._bucket = Bucket(RateLimit(), clock())

    def close(self) -> None:
        """Cancel the checks that wait."""
        self._passwords.close()

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """The answer to *request*; headers set by the handler take precedence over the configuration."""
        config = self._config()
        response = await self._answer(request, handler, config)
        given = {name.lower() for name, _ in response.headers}
        configured = config.http_server_config.headers.items()
        more = [(name, text) for name, text in configured if text and name.lower() not in given]
        return response._replace(headers=(*response.headers, *more))

    async def _answer(self, request: Request, handler: Handler, config: WebConfig) -> Response:
        if self._bucket.limit != config.rate_limit:
            self._bucket = Bucket(config.rate_limit, self._clock())
        if not self._bucket.take(self._clock()):
            return plain_text(429)
        if config.basic_auth_users:
            header = request.headers.get("authorization")
            admission = await self._passwords.judge(header, config.basic_auth_users, place_of(request.address))
            if admission is Admission.BUSY:
                return plain_text(503, None, ("Retry-After", "1"))
            if admission is Admission.REFUSED:
                return plain_text(401, None, ("WWW-Authenticate", "Basic"))
        return handler(request)
