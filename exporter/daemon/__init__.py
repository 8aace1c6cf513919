"""The daemon's process: its event loop and signals, its log, and what it tells systemd."""
