{{/* Judge models: those of `ranking.settings.models`, else all of `models`, on the pool's GPUs. */}}
{{- define "ilf.settings.ranking" -}}
{{- $ranking := .Values.ranking -}}
{{ include "ilf.settings.common" (dict "root" . "stage" "ranking" "drain" $ranking.drainSeconds) }}
state_dir: /tmp/ilf-ranking
{{- if not (hasKey $ranking.settings "models") }}
models:
  {{- if not .Values.models }} {}{{ end }}
  {{- range $name, $source := .Values.models }}
  {{ $name }}:
    source: {{ $source | quote }}
    gpus: {{ ternary $ranking.pool.tensorParallel 0 (gt (int $ranking.pool.gpu.count) 0) }}
    engine: {{- include "ilf.settings.engine" $ranking.pool | nindent 6 }}
  {{- end }}
{{- end }}
{{- end -}}
