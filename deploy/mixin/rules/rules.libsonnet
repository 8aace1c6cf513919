// Generated from deploy/prometheus by `make golden`.
{
  prometheusRules+:: {
    groups+: [
      {
        name: 'tcp-fleet',
        rules: [
          {
            record: 'job:up:sum',
            expr: 'sum without (instance) (up{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:up:count',
            expr: 'count without (instance) (up{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_host_status:count',
            expr: 'count_values without (instance) ("status", tcp_host_status{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_finding_status:count',
            expr: 'count_values without (instance) ("status", tcp_finding_status{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_status:count',
            expr: 'count_values without (instance) ("status", tcp_status{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_connections:sum',
            expr: 'sum without (instance) (tcp_connections{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_connections:max',
            expr: 'max without (instance) (tcp_connections{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_connections_peak:max',
            expr: 'max without (instance) (tcp_connections_peak{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_saturation_ratio:max',
            expr: 'max without (instance) (tcp_saturation_ratio{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_saturation_ratio:p99',
            expr: 'quantile without (instance) (0.99, tcp_saturation_ratio{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_memory_bytes:sum',
            expr: 'sum without (instance) (tcp_memory_bytes{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_orphans:sum',
            expr: 'sum without (instance) (tcp_orphans{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_active_opens:rate5m',
            expr: 'sum without (instance) (rate(tcp_active_opens_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_passive_opens:rate5m',
            expr: 'sum without (instance) (rate(tcp_passive_opens_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_attempt_fails:rate5m',
            expr: 'sum without (instance) (rate(tcp_attempt_fails_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_established_resets:rate5m',
            expr: 'sum without (instance) (rate(tcp_established_resets_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_segments_sent:rate5m',
            expr: 'sum without (instance) (rate(tcp_segments_sent_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_segments_retransmitted:rate5m',
            expr: 'sum without (instance) (rate(tcp_segments_retransmitted_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_segments_retransmitted_per_sent:ratio_rate5m',
            expr: 'job:tcp_segments_retransmitted:rate5m / (job:tcp_segments_sent:rate5m > 0)',
          },
          {
            record: 'job:tcp_listen_overflows:rate5m',
            expr: 'sum without (instance) (rate(tcp_listen_overflows_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_listen_drops:rate5m',
            expr: 'sum without (instance) (rate(tcp_listen_drops_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_syncookies_sent:rate5m',
            expr: 'sum without (instance) (rate(tcp_syncookies_sent_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_syn_queue_full_drops:rate5m',
            expr: 'sum without (instance) (rate(tcp_syn_queue_full_drops_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_timewait_overflows:rate5m',
            expr: 'sum without (instance) (rate(tcp_timewait_overflows_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_aborts_on_memory:rate5m',
            expr: 'sum without (instance) (rate(tcp_aborts_on_memory_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_memory_pressures:rate5m',
            expr: 'sum without (instance) (rate(tcp_memory_pressures_total{%(tcpExporterSelector)s}[5m]))' % $._config,
          },
          {
            record: 'job:tcp_sysctl_deviates:sum',
            expr: 'sum without (instance) (tcp_sysctl_deviates{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_sysctl_values:count',
            expr: |||
              count without (value) (
                count_values without (instance) ("value", tcp_sysctl_value{%(tcpExporterSelector)s})
              )
            ||| % $._config,
          },
          {
            record: 'job:tcp_exporter_sources_down:count',
            expr: 'count without (instance) (tcp_exporter_source_up{%(tcpExporterSelector)s} == 0)' % $._config,
          },
          {
            record: 'job:tcp_exporter_build_info:count',
            expr: 'count without (instance) (tcp_exporter_build_info{%(tcpExporterSelector)s})' % $._config,
          },
          {
            record: 'job:tcp_exporter_sample_cpu_seconds:max',
            expr: 'max without (instance) (tcp_exporter_sample_cpu_seconds{%(tcpExporterSelector)s})' % $._config,
          },
        ],
      },
    ],
  },
}
