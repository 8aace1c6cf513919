"""From a snapshot to a Prometheus exposition."""
