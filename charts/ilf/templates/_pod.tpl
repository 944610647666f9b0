{{/* Parts of pods. */}}

{{/* `restricted` Pod Security */}}
{{- define "ilf.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "ilf.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ not .Values.writableRoot }}
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* (root, component, config): labels and annotations of a pod; a changed configuration is another pod */}}
{{- define "ilf.podMetadata" -}}
labels: {{- include "ilf.podLabels" . | nindent 2 }}
annotations:
  checksum/config: {{ sha256sum .config }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* (root, class): what all pods of long-running services have */}}
{{- define "ilf.podCommon" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with include "ilf.priorityClass" . }}
priorityClassName: {{ . }}
{{- end }}
enableServiceLinks: false
# Whole names are asked for at once: a pool that sleeps has no address, and fronts ask every second.
dnsConfig: {options: [{name: ndots, value: "2"}]}
securityContext: {{- include "ilf.podSecurity" .root | nindent 2 }}
{{- end -}}

{{/* (root, component, nodeSelector, tolerations) */}}
{{- define "ilf.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.topologySpread.key }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "ilf.selectorLabels" $ | nindent 8 }}
{{- end }}
{{- end -}}

{{/* (root, env, models: bool): environment of every container of ours */}}
{{- define "ilf.env" -}}
- {name: ILF_CONFIG_FILE, value: /etc/ilf/config.yaml}
- {name: HOME, value: /tmp}
{{- if .models }}
{{- include "ilf.modelEnv" .root }}
{{- end }}
{{- range $name, $value := .root.Values.store.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $value := .env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "ilf.modelEnv" }}
- {name: HF_HOME, value: /var/lib/ilf/models/huggingface}
- {name: HF_HUB_OFFLINE, value: {{ ternary "1" "0" .Values.huggingface.offline | quote }}}
{{- if not .Values.huggingface.offline }}
{{- include "ilf.hubToken" . }}
{{- end }}
{{- end -}}

{{- define "ilf.hubToken" }}
{{- with .Values.huggingface.existingSecret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.huggingface.key }}}}
{{- end }}
{{- end -}}

{{/* The object store's credentials; nothing for a claim. */}}
{{- define "ilf.envFrom" -}}
{{- with .Values.store.existingSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end -}}

{{/* (root, component, models: bool, shm): volumes and the mounts that belong to them */}}
{{- define "ilf.volumes" -}}
- name: config
  configMap: {name: {{ include "ilf.componentName" . }}}
- name: tmp
  emptyDir: {}
- name: state
  emptyDir: {}
{{ include "ilf.securityVolumes" (dict "root" .root "tlsSecret" (include "ilf.tlsSecret" .root)) }}
{{- if not .root.Values.store.root }}
- name: artifacts
  persistentVolumeClaim: {claimName: {{ include "ilf.storeClaim" .root }}}
{{- end }}
{{- if .models }}
{{ include "ilf.modelsVolume" .root }}
{{- end }}
{{- with .shm }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . }}}
{{- end }}
{{- end -}}

{{/* (root, tlsSecret) */}}
{{- define "ilf.securityVolumes" -}}
{{- if ne (include "ilf.tlsMode" .root) "off" }}
- name: tls
  secret: {secretName: {{ .tlsSecret }}, defaultMode: 0440}
{{- end }}
{{- if .root.Values.auth.enabled }}
- name: token
  secret:
    secretName: {{ include "ilf.tokenSecret" .root }}
    defaultMode: 0440
    items: [{key: {{ .root.Values.auth.key }}, path: token}]
{{- end }}
{{- end -}}

{{- define "ilf.modelsVolume" -}}
- name: models
{{- if .Values.modelVolume.enabled }}
  persistentVolumeClaim: {claimName: {{ include "ilf.modelClaim" . }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end -}}

{{- define "ilf.mounts" -}}
- {name: config, mountPath: /etc/ilf/config.yaml, subPath: config.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: state, mountPath: /var/lib/ilf/state}
{{- if ne (include "ilf.tlsMode" .root) "off" }}
- {name: tls, mountPath: /etc/ilf/tls, readOnly: true}
{{- end }}
{{- if .root.Values.auth.enabled }}
- {name: token, mountPath: /etc/ilf/token, readOnly: true}
{{- end }}
{{- if not .root.Values.store.root }}
- {name: artifacts, mountPath: /var/lib/ilf/artifacts}
{{- end }}
{{- if .models }}
- {name: models, mountPath: /var/lib/ilf/models}
{{- end }}
{{- if .shm }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- end -}}

{{/* (root, stage): ports of a container */}}
{{- define "ilf.containerPorts" -}}
{{- $ports := include "ilf.ports" .root | fromYaml -}}
{{- with get $ports .stage -}}
- {name: grpc, containerPort: {{ .grpc }}}
- {name: metrics, containerPort: {{ .metrics }}}
{{- with .scaler }}
- {name: scaler, containerPort: {{ . }}}
{{- end }}
{{- end }}
- {name: health, containerPort: {{ $ports.health }}}
{{- end -}}

{{/*
(root, startup: seconds, live: health service that says whether to start the process anew)
Probes ask a port that serves gRPC health alone: a kubelet has no certificate for the others.
*/}}
{{- define "ilf.probes" -}}
{{- $port := (include "ilf.ports" .root | fromYaml).health -}}
startupProbe:
  grpc: {port: {{ $port }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add .startup 1) 2 }}
readinessProbe:
  grpc: {port: {{ $port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  grpc:
    port: {{ $port }}
    {{- with .live }}
    service: {{ . }}
    {{- end }}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end -}}

{{/* Endpoints forget a pod before its server refuses calls. */}}
{{- define "ilf.lifecycle" -}}
preStop: {sleep: {seconds: 5}}
{{- end -}}

{{/* (resources, gpu): `gpu` of a pool, as limits */}}
{{- define "ilf.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $limits := merge (dict .gpu.resource (.gpu.count | int)) (default dict $resources.limits) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* (root): fetches models from the hub before a worker starts */}}
{{- define "ilf.downloadContainer" -}}
{{- with .root.Values.modelVolume.download }}
initContainers:
  - name: download-models
    image: {{ $.image }}
    imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
    command: [/bin/sh, -ec]
    args:
      - |
        {{- range . }}
        hf download {{ regexReplaceAll "@.*$" . "" | squote }}{{ if contains "@" . }} --revision {{ regexReplaceAll "^[^@]*@" . "" | squote }}{{ end }} >/dev/null
        {{- end }}
    env:
      - {name: HOME, value: /tmp}
      - {name: HF_HOME, value: /var/lib/ilf/models/huggingface}
      - {name: HF_HUB_OFFLINE, value: "0"}
      {{- include "ilf.hubToken" $.root | nindent 6 }}
    securityContext: {{- include "ilf.containerSecurity" $.root | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {memory: 2Gi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: models, mountPath: /var/lib/ilf/models}
{{- end }}
{{- end -}}
