"""The peer psutil: count the sockets by state, and print one line of JSON with what the call cost."""

import json
import time
from collections import Counter

import psutil

started, cpu_started = time.monotonic(), time.process_time()
counts = Counter(connection.status for connection in psutil.net_connections(kind="tcp"))
cpu, wall = time.process_time() - cpu_started, time.monotonic() - started
with open("/proc/self/status", encoding="ascii") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "counted": sum(counts.values())}))
