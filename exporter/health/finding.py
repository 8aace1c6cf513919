"""What a finding is, and what a rule is that looks for one: the vocabulary of ``findings``.

A rule is a record with a pure function from a ``Window`` to a ``Finding`` or None. Where it cannot judge, the function
raises: ``CannotTell`` for what should be known here and is not, ``NotHere`` for what does not exist here.
"""

from __future__ import annotations

from exporter.health.thresholds import Status
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.health.window import Window


RUNBOOKS = "/runbooks/"
"""Where the daemon serves the runbooks, each under its name."""


class Finding(NamedTuple):
    """One thing that is wrong. Texts are sentences for a person; what comes from the host in them is not escaped."""

    name: str  # stable, snake_case: "accept_queue_full"
    severity: Status  # WARNING or CRITICAL
    what: str  # one line, without a full stop
    evidence: tuple[str, ...]  # sentences with the numbers that it was concluded from, at least one
    why: str  # why it matters
    remedy: str  # what to do
    command: str | None  # the command that does it, or that shows more; None where there is none
    risk: str  # what the remedy could break
    states: tuple[TcpState, ...]  # that it bears on, the most telling first

    @property
    def runbook(self) -> str:
        """The name of the page below RUNBOOKS and in docs/runbooks, which is that of the alert too."""
        return runbook_of(self.name)


class Judgement(NamedTuple):
    """One finding, looked for: OK where it is not there, UNKNOWN with the reason where it could not be judged."""

    name: str
    status: Status
    finding: Finding | None = None  # where the status is WARNING or CRITICAL
    reason: str = ""  # where it is UNKNOWN


class NotJudged(NamedTuple):
    """A finding whose subject does not exist or is not visible here, by design."""

    name: str
    reason: str


class Limit(NamedTuple):
    """A threshold of a rule, with its reason; ``docs/findings.md`` lists them."""

    value: float
    meaning: str  # what is compared with it, with its unit
    reason: str


class Rule(NamedTuple):
    """How one finding is looked for."""

    name: str  # the finding's
    subject: str  # what was looked at when nothing was found: "accept queues"
    definition: str  # what the finding says, in a sentence for the documents
    limits: tuple[Limit, ...]
    judge: Callable[[Window], Finding | None]  # may raise CannotTell or NotHere
    worst: Status = Status.CRITICAL  # of the severities that the finding can have
    measure: str = ""  # whose limit the finding is about, where it is about one


def runbook_of(name: str) -> str:
    """The runbook of a finding, and the alert that fires on it.

    >>> runbook_of("accept_queue_full")
    'TcpAcceptQueueFull'
    """
    return "Tcp" + "".join(word.capitalize() for word in name.split("_"))
