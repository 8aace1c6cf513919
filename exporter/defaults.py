"""The defaults that more than one room needs: the schema gives them to users, one-shot commands use them as they are.

A default that only the configuration has stands in ``config.schema``; those of thresholds in ``health.thresholds``.
"""

from __future__ import annotations

INTERVAL = 1.0  # seconds between counting passes
DETAIL_INTERVAL = 15.0  # seconds between detail passes
PEAK_WINDOW = 60.0  # seconds
MAX_CPU_RATIO = 0.01  # of one core, for each kind of pass
QUALITY = "sampled"  # whose tcp_info a detail pass reads: a sample's, everybody's ("full") or nobody's ("off")
MAX_SERIES = 100  # label values that one metric may have
