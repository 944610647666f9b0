{{- define "ilf.settings.finetune" -}}
{{ include "ilf.settings.common" (dict "root" . "stage" "finetune" "drain" .Values.finetune.drainSeconds) }}
{{ include "ilf.settings.store" . }}
state_dir: /var/lib/ilf/state
{{- if not (hasKey .Values.finetune.settings "models") }}
models: {{- toYaml .Values.models | nindent 2 }}
{{- end }}
backend: kubernetes
trainer: {{- include "ilf.settings.trainer" . | nindent 2 }}
kubernetes: {{- include "ilf.settings.kubernetes" . | nindent 2 }}
{{- end -}}

{{- define "ilf.settings.trainer" -}}
{{- $device := ternary "auto" "cpu" (gt (int .Values.training.pool.gpu.count) 0) -}}
{{- toYaml (merge (deepCopy .Values.training.settings) (dict "device" $device)) -}}
{{- end -}}

{{- define "ilf.settings.kubernetes" -}}
{{- $training := .Values.training -}}
namespace: {{ .Release.Namespace }}
instance: {{ .Release.Name }}
image: {{ include "ilf.image" (dict "root" . "name" "trainer" "override" $training.image) }}
image_pull_policy: {{ .Values.image.pullPolicy }}
image_pull_secrets: {{ toJson .Values.image.pullSecrets }}
service_account: {{ include "ilf.fullname" . }}-trainer
kind: {{ $training.kind }}
nodes: {{ $training.pool.nodes }}
processes_per_node: {{ $training.pool.processesPerNode }}
gpu_resource: {{ $training.pool.gpu.resource }}
gpus: {{ $training.pool.gpu.count }}
requests: {{- include "ilf.settings.quantities" $training.resources.requests | nindent 2 }}
limits: {{- include "ilf.settings.quantities" $training.resources.limits | nindent 2 }}
node_selector: {{ toJson $training.pool.nodeSelector }}
tolerations: {{ toJson $training.pool.tolerations }}
priority_class: {{ include "ilf.priorityClass" (dict "root" . "class" "training") | quote }}
queue: {{ include "ilf.queue" (dict "root" . "pool" "training") | quote }}
ttl_seconds: {{ $training.ttlSeconds }}
env: {{- include "ilf.settings.trainerEnv" . | nindent 2 }}
env_from_secrets: {{ toJson (compact (prepend $training.envFromSecrets .Values.store.existingSecret)) }}
volumes: {{- include "ilf.settings.trainerVolumes" . | nindent 2 }}
volume_mounts: {{- include "ilf.settings.trainerMounts" . | nindent 2 }}
placements: {{- include "ilf.settings.placements" $training.placements | nindent 2 }}
{{- end -}}

{{/* Values' names to the service's; only what is set. */}}
{{- define "ilf.settings.placements" -}}
{{- $names := dict "nodes" "nodes" "processesPerNode" "processes_per_node" "nodeSelector" "node_selector"
  "tolerations" "tolerations" "priorityClass" "priority_class" "queue" "queue" "env" "env"
  "envFromSecrets" "env_from_secrets" "volumes" "volumes" "volumeMounts" "volume_mounts" -}}
{{- $placements := dict -}}
{{- range $placement, $values := . -}}
{{- $fields := dict -}}
{{- range $name, $field := $names -}}
{{- if hasKey $values $name -}}{{- $_ := set $fields $field (get $values $name) -}}{{- end -}}
{{- end -}}
{{- range $name, $quantities := default dict $values.resources -}}
{{- $_ := set $fields $name (include "ilf.settings.quantities" $quantities | fromYaml) -}}
{{- end -}}
{{- with $values.gpu -}}
{{- if .resource -}}{{- $_ := set $fields "gpu_resource" .resource -}}{{- end -}}
{{- if hasKey . "count" -}}{{- $_ := set $fields "gpus" .count -}}{{- end -}}
{{- end -}}
{{- $_ := set $placements $placement $fields -}}
{{- end -}}
{{- toYaml $placements -}}
{{- end -}}

{{- define "ilf.settings.trainerEnv" -}}
{{- $own := dict "HF_HOME" "/var/lib/ilf/models/huggingface" "HF_HUB_OFFLINE" (ternary "1" "0" .Values.huggingface.offline) -}}
{{- toYaml (merge (deepCopy .Values.training.env) .Values.store.env $own) -}}
{{- end -}}

{{- define "ilf.settings.trainerVolumes" -}}
{{- if not .Values.store.root }}
- name: artifacts
  persistentVolumeClaim: {claimName: {{ include "ilf.storeClaim" . }}}
{{- end }}
{{ include "ilf.modelsVolume" . }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.training.shmSize }}}
{{- with .Values.training.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ilf.settings.trainerMounts" -}}
{{- if not .Values.store.root }}
- {name: artifacts, mountPath: /var/lib/ilf/artifacts}
{{- end }}
- {name: models, mountPath: /var/lib/ilf/models}
- {name: shm, mountPath: /dev/shm}
{{- with .Values.training.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Quantities as texts, whatever way they were written. */}}
{{- define "ilf.settings.quantities" -}}
{{- $texts := dict -}}
{{- range $name, $quantity := . -}}{{- $_ := set $texts $name (toString $quantity) -}}{{- end -}}
{{- toYaml $texts -}}
{{- end -}}
