"""The lab: real kernel TCP sockets in exact numbers, in every state, in a network namespace of their own.

The sockets are the kernel's; the other side of each connection is scripted packet by packet, so there is no second
TCP stack whose sockets would be counted too. Tests use ``LabProcess``; people use ``python -m tests.lab``.
"""

from __future__ import annotations

from tests.lab.census import by_family
from tests.lab.namespace import LabError, LabUnavailable, enter
from tests.lab.process import LabProcess
from tests.lab.states import KINDS, Expected, Lab

__all__ = ["KINDS", "Expected", "Lab", "LabError", "LabProcess", "LabUnavailable", "by_family", "enter"]
