// Alerts, recording rules and dashboards of tcp-exporter, in the layout of https://monitoring.mixins.dev.
(import 'config.libsonnet') +
(import 'alerts/alerts.libsonnet') +
(import 'rules/rules.libsonnet') +
(import 'dashboards/dashboards.libsonnet')
