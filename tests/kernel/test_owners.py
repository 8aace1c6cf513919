"""What is shown of a command line, which is nothing that may be a password; and what the walk over processes costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from exporter.kernel import owners
from exporter.kernel.owners import script_of


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("python3 -u /srv/app.py secret", "app.py"),
        ("python3 -X dev -Wignore app.py", "app.py"),
        ("python3 -Xdev -m pkg.app secret", "-m pkg.app"),
        ("python3 -Im pkg.app secret", "-m pkg.app"),
        ("python3 -mpkg.app secret", "-m pkg.app"),
        ("python3 -c secret", ""),
        ("python3 -Ic secret", ""),
        ("python3 -cpass secret", ""),
        ("python3 - secret", ""),
        ("perl -T -I lib -MJSON app.pl secret", "app.pl"),
        ("perl -ne secret", ""),
        ("perl -MJSON -E secret", ""),
        ("perl -pi.bak -e secret", ""),
        ("perl -l012ne secret", ""),
        ("perl - secret", ""),
        ("ruby -rjson -w app.rb secret", "app.rb"),
        ("ruby -r json app.rb secret", "app.rb"),
        ("ruby -ne secret", ""),
        ("ruby -eputs secret", ""),
        ("node -r ./hook.js app.js secret", "app.js"),
        ("node -pe secret", ""),
        ("node --eval secret", ""),
        ("node --eval=1 secret", ""),
        ("java -Dpassword=secret -cp /srv/lib com.example.Main secret", "com.example.Main"),
        ("java -ea -jar /srv/app.jar secret", "app.jar"),
        ("nginx -c secret", ""),
    ],
)
def test_nothing_of_a_command_line_is_shown_but_what_is_run(command: str, shown: str) -> None:
    arguments = command.split()
    assert script_of(arguments[0], arguments) == shown


TABLES = 64
THREADS = f"""
import ctypes, threading, time
ready = threading.Barrier({TABLES})
def own():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    ready.wait()
    time.sleep(600)
def share():
    time.sleep(600)
for each in [own, share] * ({TABLES} - 1):
    threading.Thread(target=each, daemon=True).start()
ready.wait()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has such tables")
def test_a_process_with_many_tables_of_descriptors_costs_no_square_of_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare, asked = owners._compare_tables, []

    def counting(one: int, other: int) -> int:
        asked.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(owners, "_compare_tables", counting)
    with subprocess.Popen([sys.executable, "-c", THREADS], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            tables, tasks = owners._tables(program.pid), os.listdir(f"/proc/{program.pid}/task")
        finally:
            program.kill()
    assert (tables[0], len(tables), len(tasks)) == (program.pid, TABLES, 2 * TABLES - 1)
    assert len(asked) < 2 * TABLES * 9  # a sort's comparisons; each with each would be 8,001
