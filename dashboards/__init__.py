"""The source of the Grafana dashboards in ``deploy/grafana``, which ``make dashboards`` writes; not in the wheel."""
