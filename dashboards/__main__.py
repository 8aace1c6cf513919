"""Write the dashboards to ``deploy/grafana``: ``python -m dashboards``, which is ``make dashboards``."""

from __future__ import annotations

import json
from pathlib import Path

from dashboards import fleet, host
from dashboards.grafana import render

FILES = {"tcp-host.json": host.DASHBOARD, "tcp-fleet.json": fleet.DASHBOARD}
FOLDER = Path(__file__).parent.parent / "deploy" / "grafana"


def texts() -> dict[str, str]:
    """The files' texts by their names."""
    return {name: json.dumps(render(it), indent=2, ensure_ascii=False) + "\n" for name, it in FILES.items()}


def main() -> None:
    """Write them all."""
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
