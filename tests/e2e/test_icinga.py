"""A real Icinga 2 on the files of deploy/icinga as they are shipped: it takes them, and its checks show real counts."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.measures import STATES
from tests.e2e.conftest import wait_for
from tests.lab import LabProcess
from tests.test_deploy_icinga import SHIPPED

ICINGA = shutil.which("icinga2", path="/usr/sbin:/usr/bin")
WAIT = 150.0  # seconds for a few checks that take one each: only a hang reaches it
STATES_OF = "tcp-states"

# What a site has of its own: hosts, Icinga's library, the checker, and where performance data goes.
SITE = """\
const NodeName = "localhost"
const ZoneName = NodeName
const PluginDir = "{plugins}"
const PluginContribDir = "{plugins}"
include <itl>
include <plugins>
object Endpoint NodeName {{ }}
object Zone ZoneName {{ endpoints = [ NodeName ] }}
object Endpoint "agent1" {{ }}
object Zone "agent1" {{ endpoints = [ "agent1" ]; parent = ZoneName }}
object CheckerComponent "checker" {{ }}
object PerfdataWriter "perfdata" {{
  service_perfdata_path = "{folder}/service-perfdata"
  service_temp_path = "{folder}/service-perfdata.tmp"
  host_perfdata_path = "{folder}/host-perfdata"
  host_temp_path = "{folder}/host-perfdata.tmp"
  service_format_template = "$host.name$\\t$service.name$\\t$service.state$\\t$service.output$\\t$service.perfdata$"
  rotation_interval = 1
}}
template Host "one" {{
  check_command = "dummy"
  address = "127.0.0.1"
}}
object Host "by-local" {{ import "one"; vars.tcp_states_by = "local" }}
object Host "by-agent" {{ import "one"; vars.tcp_states_by = "agent"; vars.agent_endpoint = "agent1" }}
object Host "by-nrpe" {{ import "one"; vars.tcp_states_by = "nrpe" }}
object Host "by-daemon" {{ import "one"; vars.tcp_states_by = "daemon" }}
"""
