"""A Nagios 4 for tests: what deploy/nagios leaves to the operator (hosts, contacts, the main file), and what it says.

``Site`` writes a configuration that is complete and no larger than that, around copies of the shipped files;
``services`` reads the status file of a running Nagios.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "deploy" / "nagios"
SERVER_FILES = sorted(path.name for path in SHIPPED.glob("*.cfg") if path.name != "nrpe.cfg")
DAEMONS_FILE = "/etc/tcp-exporter.yml"
PLUGINS = "/usr/lib/nagios/plugins"
NAGIOS = shutil.which("nagios4", path="/usr/sbin:/usr/bin")

_OURS = """\
define timeperiod {
    timeperiod_name 24x7
    alias           always
    sunday          00:00-24:00
    monday          00:00-24:00
    tuesday         00:00-24:00
    wednesday       00:00-24:00
    thursday        00:00-24:00
    friday          00:00-24:00
    saturday        00:00-24:00
}
define command {
    command_name    tell
    command_line    /bin/true
}
define contact {
    contact_name                    operator
    host_notification_commands      tell
    service_notification_commands   tell
    host_notification_period        24x7
    service_notification_period     24x7
    host_notification_options       d,r
    service_notification_options    w,u,c,r
}
define contactgroup {
    contactgroup_name   admins
    alias               operators
    members             operator
}
"""
_HOST = """\
define host {{
    host_name           {name}
    address             127.0.0.1
    {groups}
    max_check_attempts  1
    contact_groups      admins
}}
"""


class Service(NamedTuple):
    """A service as the status file has it."""

    state: int  # 0 to 3; -1 before the first check
    hard: bool
    output: str
    data: str  # the performance data as Nagios took it out of the output


class Site(NamedTuple):
    """A folder with a Nagios's whole configuration and, once it runs, its status."""

    folder: Path

    @property
    def main(self) -> Path:
        return self.folder / "nagios.cfg"

    @property
    def status(self) -> Path:
        return self.folder / "var" / "status.dat"

    def write(
        self, files: Iterable[str], hosts: dict[str, str], *, more: str = "", plugins: str = PLUGINS, unit: int = 60
    ) -> None:
        """Write it around the shipped *files*: *hosts* by name with their host groups, *more* objects, $USER1$, and how
        many seconds the minute of an interval has.
        """
        objects = self.folder / "objects"
        var = self.folder / "var"
        for folder in (self.folder, objects, var, var / "results"):
            folder.mkdir(exist_ok=True)
        open_to_nagios(self.folder)
        if os.getuid() == 0:  # who else starts it stays who he is
            for folder in (var, var / "results"):
                shutil.chown(folder, "nagios", "nagios")
        for name in files:
            shutil.copy(SHIPPED / name, objects)
        entries = (
            _HOST.format(name=name, groups=f"hostgroups {groups}" if groups else "") for name, groups in hosts.items()
        )
        (objects / "site.cfg").write_text(_OURS + "".join(entries) + more)
        (self.folder / "resource.cfg").write_text(f"$USER1$={plugins}\n")
        self.main.write_text(
            f"cfg_dir={objects}\nresource_file={self.folder}/resource.cfg\ninterval_length={unit}\n"
            f"log_file={var}/nagios.log\nstatus_file={var}/status.dat\nstatus_update_interval=1\n"
            f"check_result_path={var}/results\nobject_cache_file={var}/objects.cache\n"
            f"precached_object_file={var}/objects.precache\nlock_file={var}/nagios.lock\ntemp_file={var}/temp\n"
            f"temp_path={var}\nquery_socket={var}/query\nstate_retention_file={var}/retention.dat\n"
            "check_external_commands=0\nretain_state_information=0\nenable_notifications=0\nuse_syslog=0\n"
            "log_rotation_method=n\ncheck_for_updates=0\nnagios_user=nagios\nnagios_group=nagios\n"
            "illegal_macro_output_chars=`~$&|'\"<>\n"
            "service_inter_check_delay_method=n\nservice_interleave_factor=1\n"  # all at once at the start
        )

    def services(self) -> dict[tuple[str, str], Service]:
        """By host and description; empty before the status file is there."""
        try:
            return services(self.status.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}


def open_to_nagios(folder: Path) -> None:
    """Let the user nagios look into a folder of a test: pytest closes those above it."""
    for path in (folder, *folder.parents[:4]):
        if path.name.startswith(("pytest-", "popen-", "test_")) or path == folder:
            path.chmod(0o755)


def install_plugins(folder: Path, python: str) -> Path:
    """What $USER1$ is on a host where both plugins are installed, in *folder*; ours runs by a *python* of everybody."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "check_nrpe").symlink_to(f"{PLUGINS}/check_nrpe")
    plugin = plugins / "check_tcp_states"
    plugin.write_text(f"#!{python} -I\nfrom exporter.nagios.check import main\n\nmain()\n")
    plugin.chmod(0o755)
    return plugins


def services(status: str) -> dict[tuple[str, str], Service]:
    """The services of a status file, by host and description."""
    found = {}
    for block in re.findall(r"^servicestatus \{\n(.*?)^\t\}$", status, re.MULTILINE | re.DOTALL):
        entry = dict(line.strip().split("=", 1) for line in block.splitlines())
        state = int(entry["current_state"]) if entry["has_been_checked"] == "1" else -1
        found[entry["host_name"], entry["service_description"]] = Service(
            state, entry["state_type"] == "1", entry["plugin_output"], entry["performance_data"]
        )
    return found
