{{- define "ilf.settings.ranking" -}}
{{- $ranking := .Values.ranking -}}
{{ include "ilf.settings.common" (dict "root" . "stage" "ranking" "drain" $ranking.drainSeconds) }}
state_dir: /tmp/ilf-ranking
models: {{- include "ilf.settings.judgeModels" . | nindent 2 }}
embedding: {{- include "ilf.settings.embedding" . | nindent 2 }}
{{- if eq (include "ilf.rankingMode" .) "kuberay" }}
ray:
  # Workers' headless Service leads to Ray's head, so the gRPC server runs there, and models where judges are.
  ingress_resources: {ilf_head: 0.01}
  start_timeout_seconds: {{ $ranking.startupSeconds }}
{{- end }}
{{- end -}}

{{/* Those of `ranking.settings.models`, else all of `models`; what they do not say comes from the pool. */}}
{{- define "ilf.settings.judgeModels" -}}
{{- $ranking := .Values.ranking -}}
{{- $sources := default .Values.models $ranking.settings.models -}}
{{- $models := dict -}}
{{- range $name, $given := $sources -}}
{{- $model := ternary (dict "source" $given) $given (kindIs "string" $given) -}}
{{- $fromPool := include "ilf.settings.judgeModel" (dict "root" $ "models" (len $sources)) | fromYaml -}}
{{- if hasKey $model "replicas" -}}{{- $_ := unset $fromPool "autoscaling" -}}{{- end -}}
{{/* `merge` takes a 0 for something that was not said. */ -}}
{{- range $key := keys $model -}}{{- if ne $key "engine" -}}{{- $_ := unset $fromPool $key -}}{{- end -}}{{- end -}}
{{- $_ := set $models $name (merge (deepCopy $model) $fromPool) -}}
{{- end -}}
{{- toYaml $models -}}
{{- end -}}

{{/* (root, models: their number): what a copy of a judge model takes of the pool */}}
{{- define "ilf.settings.judgeModel" -}}
{{- $pool := .root.Values.ranking.pool -}}
{{- $gpus := int $pool.gpu.count -}}
{{- $inPod := div $gpus (mul $pool.tensorParallel .models) -}}
engine: {{- include "ilf.settings.engine" $pool | nindent 2 }}
{{- if eq (include "ilf.rankingMode" .root) "kuberay" }}
gpus: {{ ternary $pool.tensorParallel 0 (gt $gpus 0) }}
autoscaling: {{- include "ilf.settings.judgeScaling" .root | nindent 2 }}
# Without GPUs to count, a pod holds one copy of each model.
resources: {ilf_judge: {{ ternary 0.01 (divf (floor (divf 100 .models)) 100) (gt $gpus 0) }}}
{{- else if gt $inPod 0 }}
gpus: {{ $pool.tensorParallel }}
replicas: {{ $inPod }}
{{/* With fewer GPUs than that, Ray shares them out. */ -}}
{{- end }}
{{- end -}}

{{/* Copies that the pool's largest size holds. */}}
{{- define "ilf.settings.judgeScaling" -}}
{{- $pool := .Values.ranking.pool -}}
{{- $inPod := max 1 (div (int $pool.gpu.count) (int $pool.tensorParallel)) -}}
min_replicas: {{ $pool.minReplicas }}
max_replicas: {{ mul $pool.maxReplicas $inPod }}
idle_seconds: {{ $pool.idleSeconds }}
{{- end -}}

{{/* Small enough for the CPU: the GPUs are the judges'. */}}
{{- define "ilf.settings.embedding" -}}
{{- $given := default dict .Values.ranking.settings.embedding -}}
{{- $fromPool := dict "gpus" 0 -}}
{{- if eq (include "ilf.rankingMode" .) "kuberay" -}}
{{- $_ := set $fromPool "resources" (dict "ilf_judge" 0.01) -}}
{{- if not (hasKey $given "replicas") -}}
{{- $_ := set $fromPool "autoscaling" (include "ilf.settings.judgeScaling" . | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- toYaml (merge (deepCopy $given) $fromPool) -}}
{{- end -}}
