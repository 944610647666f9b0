{{/* What the three serving stages have in common: a front, and workers behind a headless Service. */}}

{{/* (root, stage) */}}
{{- define "ilf.front" -}}
{{- $values := get .root.Values .stage -}}
{{- $context := dict "root" .root "stage" .stage "component" (printf "%s-front" .stage) "class" "control" -}}
{{- $config := dict "section" (printf "%s_front" .stage) "settings" $values.front.settings "chart" (include "ilf.settings.front" .) -}}
{{- $config = merge $config $context -}}
{{ include "ilf.configMap" $config }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "ilf.componentName" $context }}
  labels: {{- include "ilf.labels" $context | nindent 4 }}
spec:
  replicas: {{ $values.front.replicas }}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{- include "ilf.selectorLabels" $context | nindent 6 }}
  template:
    metadata:
      {{- include "ilf.podMetadata" (merge (dict "config" (include "ilf.configText" $config)) $context) | nindent 6 }}
    spec:
      {{- include "ilf.podCommon" $context | nindent 6 }}
      automountServiceAccountToken: false
      serviceAccountName: {{ include "ilf.fullname" .root }}
      terminationGracePeriodSeconds: {{ add $values.drainSeconds 15 }}
      {{- include "ilf.scheduling" (merge (dict "nodeSelector" $values.front.nodeSelector "tolerations" $values.front.tolerations) $context) | nindent 6 }}
      containers:
        - name: front
          image: {{ include "ilf.image" (dict "root" .root "name" .stage "override" $values.image) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: [--role, front]
          env: {{- include "ilf.env" (dict "root" .root "env" dict) | nindent 12 }}
          {{- include "ilf.envFrom" .root | nindent 10 }}
          ports: {{- include "ilf.containerPorts" . | nindent 12 }}
          {{- include "ilf.probes" (dict "root" .root "startup" 120 "live" "liveness") | nindent 10 }}
          lifecycle: {{- include "ilf.lifecycle" . | nindent 12 }}
          securityContext: {{- include "ilf.containerSecurity" .root | nindent 12 }}
          resources: {{- toYaml $values.front.resources | nindent 12 }}
          volumeMounts: {{- include "ilf.mounts" $context | nindent 12 }}
      volumes: {{- include "ilf.volumes" $context | nindent 8 }}
---
{{ include "ilf.disruptionBudget" $context }}
---
{{ include "ilf.service" (merge (dict "name" (printf "%s-%s" (include "ilf.fullname" .root) .stage)) $context) }}
{{- end -}}

{{/* (root, stage, component, name, headless) */}}
{{- define "ilf.service" -}}
{{- $ports := get (include "ilf.ports" .root | fromYaml) .stage -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels: {{- include "ilf.labels" . | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector: {{- include "ilf.selectorLabels" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ $ports.grpc }}, targetPort: {{ $ports.grpc }}, appProtocol: kubernetes.io/h2c}
    - {name: metrics, port: {{ $ports.metrics }}, targetPort: {{ $ports.metrics }}}
    {{- with $ports.scaler }}
    - {name: scaler, port: {{ . }}, targetPort: {{ . }}}
    {{- end }}
{{- end -}}

{{/* (root, component) */}}
{{- define "ilf.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "ilf.componentName" . }}
  labels: {{- include "ilf.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "ilf.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/* (root, stage, chart: settings as YAML text): ConfigMap, Deployment, headless Service */}}
{{- define "ilf.worker" -}}
{{- $values := get .root.Values .stage -}}
{{- $context := dict "root" .root "stage" .stage "component" (printf "%s-worker" .stage) "class" "serving" "models" true "shm" $values.shmSize -}}
{{- $config := merge (dict "section" .stage "settings" $values.settings "chart" .chart) $context -}}
{{- $image := include "ilf.image" (dict "root" .root "name" .stage "override" $values.image) -}}
{{ include "ilf.configMap" $config }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "ilf.componentName" $context }}
  labels:
    {{- include "ilf.labels" $context | nindent 4 }}
    {{- with include "ilf.queue" (dict "root" .root "pool" "serving") }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  replicas: {{ include "ilf.replicas" . }}
  strategy:
    rollingUpdate: {maxSurge: {{ $values.surge }}, maxUnavailable: {{ ternary 0 1 (gt (int $values.surge) 0) }}}
  selector:
    matchLabels: {{- include "ilf.selectorLabels" $context | nindent 6 }}
  template:
    metadata:
      {{- include "ilf.podMetadata" (merge (dict "config" (include "ilf.configText" $config)) $context) | nindent 6 }}
    spec:
      {{- include "ilf.podCommon" $context | nindent 6 }}
      automountServiceAccountToken: false
      serviceAccountName: {{ include "ilf.fullname" .root }}
      terminationGracePeriodSeconds: {{ add $values.drainSeconds 15 }}
      {{- include "ilf.scheduling" (merge (dict "nodeSelector" $values.pool.nodeSelector "tolerations" $values.pool.tolerations) $context) | nindent 6 }}
      {{- include "ilf.downloadContainer" (dict "root" .root "image" $image) | nindent 6 }}
      containers:
        - name: worker
          image: {{ $image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          env: {{- include "ilf.env" (dict "root" .root "env" $values.env "models" true) | nindent 12 }}
          {{- include "ilf.envFrom" .root | nindent 10 }}
          ports: {{- include "ilf.containerPorts" . | nindent 12 }}
          {{- include "ilf.probes" (dict "root" .root "startup" $values.startupSeconds "live" "") | nindent 10 }}
          lifecycle: {{- include "ilf.lifecycle" . | nindent 12 }}
          securityContext: {{- include "ilf.containerSecurity" .root | nindent 12 }}
          resources: {{- include "ilf.resources" (dict "resources" $values.resources "gpu" $values.pool.gpu) | nindent 12 }}
          volumeMounts: {{- include "ilf.mounts" $context | nindent 12 }}
      volumes: {{- include "ilf.volumes" $context | nindent 8 }}
---
{{ include "ilf.disruptionBudget" $context }}
---
{{ include "ilf.service" (merge (dict "name" (printf "%s-%s-workers" (include "ilf.fullname" .root) .stage) "headless" true) $context) }}
{{- end -}}

{{/*
(root, stage): replicas of a worker Deployment. What an autoscaler has set stays in an upgrade; without one at least one
replica is there, because nothing would wake the pool.
*/}}
{{- define "ilf.replicas" -}}
{{- $pool := (get .root.Values .stage).pool -}}
{{- $mode := include "ilf.scaledBy" . -}}
{{- $wanted := ternary (int $pool.minReplicas) (max 1 $pool.minReplicas) (eq $mode "keda") -}}
{{- if eq $mode "fixed" -}}{{- $wanted -}}
{{- else -}}
{{- $name := printf "%s-%s-worker" (include "ilf.fullname" .root) .stage -}}
{{- $present := lookup "apps/v1" "Deployment" .root.Release.Namespace $name -}}
{{- if $present -}}{{- max $pool.minReplicas (min $pool.maxReplicas (int $present.spec.replicas)) -}}
{{- else -}}{{- $wanted -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (root, stage): ScaledObject or HorizontalPodAutoscaler of a worker Deployment */}}
{{- define "ilf.autoscaler" -}}
{{- $values := get .root.Values .stage -}}
{{- $context := dict "root" .root "component" (printf "%s-worker" .stage) -}}
{{- $mode := include "ilf.scaledBy" . -}}
{{- if eq $mode "keda" -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "ilf.componentName" $context }}
  labels: {{- include "ilf.labels" $context | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ include "ilf.componentName" $context }}}
  # How long an idle pool stays is the scaler's decision, so KEDA adds next to nothing to it.
  cooldownPeriod: 1
  pollingInterval: 5
  minReplicaCount: {{ $values.pool.minReplicas }}
  maxReplicaCount: {{ $values.pool.maxReplicas }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          policies: [{type: Pods, value: 1000, periodSeconds: 1}]
        scaleDown:
          stabilizationWindowSeconds: 0
          policies: [{type: Pods, value: 1000, periodSeconds: 1}]
  triggers:
    - type: external-push
      metadata:
        pool: {{ .stage }}
        scalerAddress: {{ printf "%s-orchestrator.%s:%v" (include "ilf.fullname" .root) .root.Release.Namespace (include "ilf.ports" .root | fromYaml).orchestrator.scaler | quote }}
      {{- if ne (include "ilf.tlsMode" .root) "off" }}
      authenticationRef: {name: {{ include "ilf.fullname" .root }}-scaler}
      {{- end }}
{{- else if eq $mode "hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "ilf.componentName" $context }}
  labels: {{- include "ilf.labels" $context | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "ilf.componentName" $context }}}
  minReplicas: {{ max 1 $values.pool.minReplicas }}
  maxReplicas: {{ $values.pool.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .root.Values.autoscaling.hpaCpuPercent }}}}
{{- end -}}
{{- end -}}
