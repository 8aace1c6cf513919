"""What is shown of a command line: the name of what runs, and nothing that may be a password."""

from __future__ import annotations

import pytest

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
