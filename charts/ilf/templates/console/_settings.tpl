{{/* `state_dir` is the mounted Secret: it has the key of sessions and the token that would be made there otherwise. */}}
{{- define "ilf.settings.console" -}}
{{- $root := . -}}
{{- $ports := include "ilf.ports" . | fromYaml -}}
server:
  host: 0.0.0.0
  port: {{ $ports.console.http }}
  metrics_port: {{ $ports.console.metrics }}
  drain_seconds: {{ .Values.console.drainSeconds }}
  {{- if .Values.console.ingress.enabled }}
  url: https://{{ .Values.console.ingress.host }}
  {{- end }}
telemetry:
  {{- include "ilf.settings.telemetry" . | nindent 2 }}
services:
  {{- range list "refinement" "ranking" "reward" "finetune" "orchestrator" }}
  {{ . }}: {{ include "ilf.fullname" $root }}-{{ . }}:{{ (get $ports .).grpc }}
  {{- end }}
  {{- include "ilf.settings.security" . | nindent 2 }}
state_dir: /etc/ilf/console
{{- end -}}

{{- define "ilf.consoleSecret" -}}
{{- default (printf "%s-console" (include "ilf.fullname" .)) .Values.console.existingSecret -}}
{{- end -}}
