"""The daemon with counting passes back to back and detail passes beside them: an hour's samples in a minute.

The configuration refuses intervals below 100 ms, for good reasons that do not hold here.
"""

from exporter import cli
from exporter.config.schema import Config
from exporter.sampling import assembly, loop
from exporter.sampling.loop import PassSchedule, Schedule

_COUNTING, _DETAIL = PassSchedule(0.001, 1.0), PassSchedule(0.04, 1.0)  # where a pass takes some ms, about one to 15
_usual = assembly.schedule  # there is no other way around the limit, and there should be none


def _hurried(settings: Config) -> Schedule:
    return _usual(settings)._replace(counting=_COUNTING, detail=_DETAIL)


assembly.schedule = _hurried
loop._STALE_INTERVALS = 10_000  # noqa: SLF001 - three of these intervals are shorter than a request
cli.main()
