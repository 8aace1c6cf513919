"""What ``--url`` takes, for the plugin and the commands: http or https, a host, and no password. Pure."""

from __future__ import annotations

import re

from exporter.errors import UsageError

_URL = r"(?ai:https?://(\[[0-9a-f:.]+\]|[\w.-]+)(:[0-9]{1,5})?(/[!\"$->@-~]*)?)"


def checked(option: str, text: str) -> str:
    """*text*, or ``UsageError`` where no request could be sent there.

    >>> checked("--url", "http://127.0.0.1:19293/tcp")
    'http://127.0.0.1:19293/tcp'
    """
    if "@" in text:
        raise UsageError(f"{option}: expected no user and password in the URL: --credentials-file takes them")
    if not re.fullmatch(_URL, text):
        raise UsageError(f"{option}: expected a daemon's URL, as http://127.0.0.1:19293, got {text[:200]!r}")
    return text
