{{- define "tcp-exporter.fullname" -}}
{{ default .Release.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* app.kubernetes.io/name is fixed: by it the PodMonitor makes job="tcp-exporter", which the rules ask for. */}}
{{- define "tcp-exporter.selectorLabels" -}}
app.kubernetes.io/name: tcp-exporter
app.kubernetes.io/component: exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tcp-exporter.labels" -}}
{{ include "tcp-exporter.selectorLabels" . }}
app.kubernetes.io/part-of: tcp-exporter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tcp-exporter.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if .Values.namespaces.enabled }}
{{- $config = mergeOverwrite $config (dict "detail" (dict "namespaces" true)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* The port of the first address that the configuration listens on. */}}
{{- define "tcp-exporter.port" -}}
{{ regexFind "[0-9]+$" (first .Values.config.web.listen_address) }}
{{- end }}

{{/* A probe: the kubelet's own, or with TLS or passwords the program's, which is rarer because it starts a Python. */}}
{{- define "tcp-exporter.probe" -}}
{{- if .root.Values.web.secretName -}}
exec:
  command:
    - tcp-exporter
    - healthcheck
    - --url=https://{{ .root.Values.web.serverName }}:{{ include "tcp-exporter.port" .root }}
    - --ca-file=/etc/tcp-exporter-web/ca.crt
    {{- if .root.Values.web.passwords }}
    - --credentials-file=/etc/tcp-exporter-web/credentials
    {{- end }}
periodSeconds: {{ .rare }}
timeoutSeconds: 10
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
periodSeconds: 10
timeoutSeconds: 5
{{- end }}
{{- end }}
