"""Run the exporter on a disk that hangs: it opens no file whose path has a part in it for as long as another exists.

``python hanging_open.py PART WHILE ARGUMENT...``
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

_open = os.open


def main() -> None:
    """Become the exporter, whose ``os.open`` hangs."""
    part, flag, *arguments = sys.argv[1:]

    def hanging(path: Any, *more: Any, **named: Any) -> int:
        while part in str(path) and os.path.exists(flag):
            time.sleep(0.02)
        return _open(path, *more, **named)

    os.open = hanging
    sys.argv[1:] = arguments
    from exporter.cli import main as run  # noqa: PLC0415 - with the disk as it is now

    run()


if __name__ == "__main__":
    main()
