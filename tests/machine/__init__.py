"""A machine of its own for what a user installs: Debian, booted, from packages to journal.

``root`` makes the tree of a minimal Debian, ``booted`` boots it under systemd-nspawn and runs commands in it. What the
tests here assert are the answers of that machine: of its systemctl, its journal, its dpkg and its HTTP.
"""
