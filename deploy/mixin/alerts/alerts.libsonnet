// Generated from deploy/prometheus by `make golden`.
{
  prometheusAlerts+:: {
    groups+: [
      {
        name: 'tcp-thresholds',
        rules: [
          {
            alert: 'TcpEstablished',
            expr: |||
              tcp_connections{%(tcpExporterSelector)s,state="established"}
                > ignoring(state, measure, severity)
              tcp_threshold{%(tcpExporterSelector)s,measure="established",severity="critical"}
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'More established connections than the threshold allows.',
              description: '{{ $labels.instance }} has {{ printf "%.0f" $value }} established connections; thresholds in force:{{ range $i, $limit := printf `sort(tcp_threshold{job="%s",instance="%s",measure="established"})` $labels.job $labels.instance | query }}{{ if $i }},{{ end }} {{ .Labels.severity }} above {{ .Value }}{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpEstablished',
            },
          },
          {
            alert: 'TcpEstablished',
            expr: |||
              tcp_connections{%(tcpExporterSelector)s,state="established"}
                > ignoring(state, measure, severity)
              tcp_threshold{%(tcpExporterSelector)s,measure="established",severity="warning"}
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'More established connections than the threshold allows.',
              description: '{{ $labels.instance }} has {{ printf "%.0f" $value }} established connections; thresholds in force:{{ range $i, $limit := printf `sort(tcp_threshold{job="%s",instance="%s",measure="established"})` $labels.job $labels.instance | query }}{{ if $i }},{{ end }} {{ .Labels.severity }} above {{ .Value }}{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpEstablished',
            },
          },
          {
            alert: 'TcpThreshold',
            expr: |||
              tcp_status{%(tcpExporterSelector)s} == 2
                unless
              label_replace(
                tcp_connections{%(tcpExporterSelector)s,state="established"}
                  > ignoring(state, measure, severity)
                tcp_threshold{%(tcpExporterSelector)s,measure="established",severity="critical"},
                "measure", "established", "", ""
              )
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'A measure is outside the range that the configuration allows.',
              description: '{{ $labels.measure }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}{{ range printf `tcp_connections{job="%s",instance="%s",state="%s"}` $labels.job $labels.instance $labels.measure | query }} at {{ printf "%.0f" .Value }}{{ end }}; thresholds in force:{{ range $i, $limit := printf `sort(tcp_threshold{job="%s",instance="%s",measure="%s"})` $labels.job $labels.instance $labels.measure | query }}{{ if $i }},{{ end }} {{ .Labels.severity }} above {{ .Value }}{{ else }} none of them upper ones{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpThreshold',
            },
          },
          {
            alert: 'TcpThreshold',
            expr: |||
              tcp_status{%(tcpExporterSelector)s} > 0 < 3
                unless
              label_replace(
                tcp_connections{%(tcpExporterSelector)s,state="established"}
                  > ignoring(state, measure)
                min without (severity) (tcp_threshold{%(tcpExporterSelector)s,measure="established"}),
                "measure", "established", "", ""
              )
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A measure is outside the range that the configuration allows.',
              description: '{{ $labels.measure }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}{{ range printf `tcp_connections{job="%s",instance="%s",state="%s"}` $labels.job $labels.instance $labels.measure | query }} at {{ printf "%.0f" .Value }}{{ end }}; thresholds in force:{{ range $i, $limit := printf `sort(tcp_threshold{job="%s",instance="%s",measure="%s"})` $labels.job $labels.instance $labels.measure | query }}{{ if $i }},{{ end }} {{ .Labels.severity }} above {{ .Value }}{{ else }} none of them upper ones{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpThreshold',
            },
          },
          {
            alert: 'TcpMeasureUnknown',
            expr: |||
              tcp_status{%(tcpExporterSelector)s} == 3
                and ignoring(measure, state)
              tcp_connections{%(tcpExporterSelector)s,state="listen"}
            ||| % $._config,
            'for': '30m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A threshold is set on a measure that is unknown on the host.',
              description: '{{ $labels.measure }} of {{ $labels.instance }} has a threshold and no value, so nobody watches it.',
              runbook_url: $._config.runbookURLPattern % 'TcpMeasureUnknown',
            },
          },
        ],
      },
      {
        name: 'tcp-findings',
        rules: [
          {
            alert: 'TcpAcceptQueueFull',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="accept_queue_full"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'An application does not call accept() in time, so the kernel drops connections.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpAcceptQueueFull',
            },
          },
          {
            alert: 'TcpAcceptQueueFull',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="accept_queue_full"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An application does not call accept() in time, so the kernel drops connections.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpAcceptQueueFull',
            },
          },
          {
            alert: 'TcpSynFlood',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="syn_flood"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Many handshakes never complete: the cookies of a full SYN queue do not come back, or cookies are off and a full SYN queue drops SYNs.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpSynFlood',
            },
          },
          {
            alert: 'TcpSynFlood',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="syn_flood"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Many handshakes never complete: the cookies of a full SYN queue do not come back, or cookies are off and a full SYN queue drops SYNs.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpSynFlood',
            },
          },
          {
            alert: 'TcpSynQueueTooSmall',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="syn_queue_too_small"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A SYN queue is too short for the clients that connect: their cookies come back, or they are dropped for a moment where cookies are off.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpSynQueueTooSmall',
            },
          },
          {
            alert: 'TcpHalfOpenConnections',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="half_open_connections"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Many handshakes do not complete, although SYN queues and accept queues have room.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpHalfOpenConnections',
            },
          },
          {
            alert: 'TcpSynSentUnanswered',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="syn_sent_unanswered"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Connections that this host opens get no answer at all.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpSynSentUnanswered',
            },
          },
          {
            alert: 'TcpSynSentUnanswered',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="syn_sent_unanswered"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Connections that this host opens get no answer at all.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpSynSentUnanswered',
            },
          },
          {
            alert: 'TcpConnectionsRefused',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="connections_refused"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Connections to this host or from it are refused, or most of them end in a reset.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpConnectionsRefused',
            },
          },
          {
            alert: 'TcpConnectionsRefused',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="connections_refused"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Connections to this host or from it are refused, or most of them end in a reset.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpConnectionsRefused',
            },
          },
          {
            alert: 'TcpRetransmissions',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="retransmissions"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'A large share of the segments is lost and sent again.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpRetransmissions',
            },
          },
          {
            alert: 'TcpRetransmissions',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="retransmissions"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A large share of the segments is lost and sent again.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpRetransmissions',
            },
          },
          {
            alert: 'TcpZeroWindow',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="zero_window"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Connections are stalled because a receiver, here or at the other end, does not read.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpZeroWindow',
            },
          },
          {
            alert: 'TcpDeadPeers',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="dead_peers"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Established connections lead to peers that answer neither keepalive probes nor data.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpDeadPeers',
            },
          },
          {
            alert: 'TcpConntrackNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="conntrack_near_limit"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The table of tracked connections is near nf_conntrack_max, or loses new ones.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpConntrackNearLimit',
            },
          },
          {
            alert: 'TcpConntrackNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="conntrack_near_limit"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The table of tracked connections is near nf_conntrack_max, or loses new ones.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpConntrackNearLimit',
            },
          },
          {
            alert: 'TcpMemoryPressure',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="memory_pressure"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: "TCP's buffers take more memory than the pressure mark of tcp_mem.",
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpMemoryPressure',
            },
          },
          {
            alert: 'TcpMemoryPressure',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="memory_pressure"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: "TCP's buffers take more memory than the pressure mark of tcp_mem.",
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpMemoryPressure',
            },
          },
          {
            alert: 'TcpOrphansNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="orphans_near_limit"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Sockets without a process are near tcp_max_orphans, above which the kernel resets them.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpOrphansNearLimit',
            },
          },
          {
            alert: 'TcpOrphansNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="orphans_near_limit"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Sockets without a process are near tcp_max_orphans, above which the kernel resets them.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpOrphansNearLimit',
            },
          },
          {
            alert: 'TcpEphemeralPortsNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="ephemeral_ports_near_limit"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Few local ports are left for connect() to a destination, or for bind(), which fails without one.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpEphemeralPortsNearLimit',
            },
          },
          {
            alert: 'TcpEphemeralPortsNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="ephemeral_ports_near_limit"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Few local ports are left for connect() to a destination, or for bind(), which fails without one.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpEphemeralPortsNearLimit',
            },
          },
          {
            alert: 'TcpTimeWaitNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="time_wait_near_limit"} == 2
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'TIME-WAIT sockets are near tcp_max_tw_buckets, above which connections skip the state.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpTimeWaitNearLimit',
            },
          },
          {
            alert: 'TcpTimeWaitNearLimit',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="time_wait_near_limit"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'TIME-WAIT sockets are near tcp_max_tw_buckets, above which connections skip the state.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpTimeWaitNearLimit',
            },
          },
          {
            alert: 'TcpCloseWaitLeak',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="close_wait_leak"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An application does not close connections that its peers have closed.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpCloseWaitLeak',
            },
          },
          {
            alert: 'TcpDescriptorLeak',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="descriptor_leak"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Descriptors hold TCP sockets whose connections have ended.',
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpDescriptorLeak',
            },
          },
          {
            alert: 'TcpBufferLimits',
            expr: |||
              tcp_finding_status{%(tcpExporterSelector)s,finding="buffer_limits"} > 0 < 3
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: "Transfers over a long path wait for a send buffer or for the peer's window, and not for the path.",
              description: '{{ $labels.finding }} of {{ $labels.instance }} is {{ if eq $value 2.0 }}CRITICAL{{ else }}WARNING{{ end }}. The evidence and the remedy are on its status page, and in tcp-exporter advise.',
              runbook_url: $._config.runbookURLPattern % 'TcpBufferLimits',
            },
          },
          {
            alert: 'TcpFindingUnknown',
            expr: |||
              count without (finding) (tcp_finding_status{%(tcpExporterSelector)s} == 3)
                and ignoring(state)
              tcp_connections{%(tcpExporterSelector)s,state="listen"}
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The exporter cannot judge some findings.',
              description: '{{ $labels.instance }} cannot judge{{ range $i, $it := printf `tcp_finding_status{job="%s",instance="%s"} == 3` $labels.job $labels.instance | query | sortByLabel "finding" }}{{ if $i }},{{ end }} {{ .Labels.finding }}{{ end }}, so nobody watches for that.',
              runbook_url: $._config.runbookURLPattern % 'TcpFindingUnknown',
            },
          },
        ],
      },
      {
        name: 'tcp-outlook',
        rules: [
          {
            record: 'tcp:seconds_to_full:notice',
            expr: 'vector(14400)',
          },
          {
            record: 'tcp:saturation_ratio:notice',
            expr: 'vector(0.3)',
          },
          {
            alert: 'TcpFullWithinHours',
            expr: |||
              tcp_saturation_seconds_to_full{%(tcpExporterSelector)s}
                < on() group_left() tcp:seconds_to_full:notice
                and
              tcp_saturation_ratio{%(tcpExporterSelector)s}
                > on() group_left() tcp:saturation_ratio:notice
                unless
              tcp_saturation_ratio{%(tcpExporterSelector)s}
                < 1.1 * max_over_time(tcp_saturation_ratio{%(tcpExporterSelector)s}[2h] offset 23h)
            ||| % $._config,
            'for': '30m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A limit will be full within hours at the present rate.',
              description: '{{ $labels.resource }} of {{ $labels.instance }} is full in {{ humanizeDuration $value }} at the rate of the last hour.',
              runbook_url: $._config.runbookURLPattern % 'TcpFullWithinHours',
            },
          },
        ],
      },
      {
        name: 'tcp-slow-leaks',
        interval: '5m',
        rules: [
          {
            record: 'tcp:close_wait:notice',
            expr: 'vector(20)',
          },
          {
            alert: 'TcpSlowCloseWaitLeak',
            expr: |||
              min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h])
                >= on() group_left() tcp:close_wait:notice
                and
              min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h])
                > min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h] offset 6h)
                and
              min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h] offset 6h)
                > min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h] offset 12h)
                and
              min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h] offset 12h)
                > min_over_time(tcp_connections{%(tcpExporterSelector)s,state="close_wait"}[6h] offset 18h)
            ||| % $._config,
            'for': '1h',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An application leaks connections slowly: the number in CLOSE-WAIT has grown all day.',
              description: 'At least {{ printf "%.0f" $value }} connections of {{ $labels.instance }} are in CLOSE-WAIT, and they have become more all day.',
              runbook_url: $._config.runbookURLPattern % 'TcpSlowCloseWaitLeak',
            },
          },
        ],
      },
      {
        name: 'tcp-sysctls',
        rules: [
          {
            alert: 'TcpSysctlDrift',
            expr: |||
              tcp_sysctl_deviates{%(tcpExporterSelector)s} == 1
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A sysctl is not what is recommended or expected.',
              description: '{{ $labels.name }}{{ with $labels.field }} ({{ . }}){{ end }} of {{ $labels.instance }} is{{ range printf `tcp_sysctl_value{job="%s",instance="%s",name="%s",field="%s"}` $labels.job $labels.instance $labels.name $labels.field | query }} {{ printf "%.0f" .Value }} and{{ end }} not what the profile or the configuration says{{ range printf `tcp_sysctl_recommended_value{job="%s",instance="%s",name="%s",field="%s"}` $labels.job $labels.instance $labels.name $labels.field | query }}: {{ printf "%.0f" .Value }}{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpSysctlDrift',
            },
          },
        ],
      },
      {
        name: 'tcp-exporter',
        rules: [
          {
            alert: 'TcpExporterDown',
            expr: |||
              up{%(tcpExporterSelector)s} == 0
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The exporter does not answer.',
              description: 'Prometheus cannot scrape {{ $labels.instance }}, so nobody watches TCP on that host.',
              runbook_url: '{{ with printf `up{job="%s"} == 1` $labels.job | query }}http://{{ . | first | label "instance" }}/runbooks/TcpExporterDown{{ else }}docs/runbooks/TcpExporterDown.md{{ end }}',
            },
          },
          {
            alert: 'TcpExporterMissing',
            expr: |||
              absent(up{%(tcpExporterSelector)s})
            ||| % $._config,
            'for': '10m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Prometheus has no exporter to scrape.',
              description: 'The job {{ $labels.job }} has no targets, so none of its alerts can fire.',
              runbook_url: 'docs/runbooks/TcpExporterMissing.md',
            },
          },
          {
            alert: 'TcpExporterStale',
            expr: |||
              up{%(tcpExporterSelector)s} == 1
                unless ignoring(state)
              tcp_connections{%(tcpExporterSelector)s,state="listen"}
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The exporter answers, but has no fresh sample.',
              description: '{{ $labels.instance }} is scraped and serves no connection counts, so nobody watches TCP on that host.',
              runbook_url: $._config.runbookURLPattern % 'TcpExporterStale',
            },
          },
          {
            alert: 'TcpExporterSourceDown',
            expr: |||
              tcp_exporter_source_up{%(tcpExporterSelector)s} == 0
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The exporter cannot read one of its sources.',
              description: '{{ $labels.instance }} cannot read {{ $labels.source }}; the values from that source are absent.',
              runbook_url: $._config.runbookURLPattern % 'TcpExporterSourceDown',
            },
          },
          {
            alert: 'TcpExporterConfigReloadFailed',
            expr: |||
              tcp_exporter_config_last_reload_successful{%(tcpExporterSelector)s} == 0
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The exporter rejected its configuration.',
              description: '{{ $labels.instance }} keeps the previous configuration, and will not start with the file as it is.',
              runbook_url: $._config.runbookURLPattern % 'TcpExporterConfigReloadFailed',
            },
          },
          {
            alert: 'TcpExporterCountsEverySocket',
            expr: |||
              tcp_exporter_sample_derived{%(tcpExporterSelector)s} == 0
                and ignoring(reader)
              tcp_exporter_reader_info{%(tcpExporterSelector)s,reader="netlink"}
            ||| % $._config,
            'for': '1h',
            labels: {
              severity: 'info',
            },
            annotations: {
              summary: "The exporter counts every socket, because it cannot rely on the kernel's own sums.",
              description: '{{ $labels.instance }} counts every socket one by one: the counts are right, but cost more.',
              runbook_url: $._config.runbookURLPattern % 'TcpExporterCountsEverySocket',
            },
          },
          {
            alert: 'TcpExporterIntervalStretched',
            expr: |||
              tcp_exporter_sample_interval_seconds{%(tcpExporterSelector)s}
                >= 3 * tcp_exporter_sample_configured_interval_seconds{%(tcpExporterSelector)s}
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'info',
            },
            annotations: {
              summary: 'The exporter samples less often than configured, to keep its share of CPU.',
              description: '{{ $labels.instance }} makes a {{ $labels.pass }} pass every {{ $value | humanizeDuration }}, not every{{ range printf `tcp_exporter_sample_configured_interval_seconds{job="%s",instance="%s",pass="%s"}` $labels.job $labels.instance $labels.pass | query }} {{ .Value | humanizeDuration }}{{ end }}.',
              runbook_url: $._config.runbookURLPattern % 'TcpExporterIntervalStretched',
            },
          },
        ],
      },
    ],
  },
}
