"""``python -m exporter`` is ``tcp-exporter``."""

from exporter.cli import main

main()
