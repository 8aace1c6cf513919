"""TCP health of a Linux host, for Prometheus and for Nagios.

Data flows one way through this package: ``kernel`` reads and parses, ``snapshot`` is the immutable sample,
and ``prometheus``, ``nagios`` and ``web`` each render it. Nothing reaches back.
"""

__version__ = "0.1.0"
