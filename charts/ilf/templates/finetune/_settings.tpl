{{- define "ilf.settings.finetune" -}}
{{ include "ilf.settings.common" (dict "root" . "stage" "finetune" "drain" .Values.finetune.drainSeconds) }}
{{ include "ilf.settings.store" . }}
state_dir: /var/lib/ilf/state
models: {{- toYaml .Values.models | nindent 2 }}
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
requests: {{ toJson (default dict $training.resources.requests) }}
limits: {{ toJson (default dict $training.resources.limits) }}
node_selector: {{ toJson $training.pool.nodeSelector }}
tolerations: {{ toJson $training.pool.tolerations }}
priority_class: {{ include "ilf.priorityClass" (dict "root" . "class" "training") | quote }}
queue: {{ include "ilf.queue" (dict "root" . "pool" "training") | quote }}
ttl_seconds: {{ $training.ttlSeconds }}
env: {{- include "ilf.settings.trainerEnv" . | nindent 2 }}
env_from_secrets: {{ toJson (compact (prepend $training.envFromSecrets .Values.store.existingSecret)) }}
volumes: {{- include "ilf.settings.trainerVolumes" . | nindent 2 }}
volume_mounts: {{- include "ilf.settings.trainerMounts" . | nindent 2 }}
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
