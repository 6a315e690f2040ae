{{- define "churn.labels" -}}
app.kubernetes.io/name: churn
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Values.image.tag | quote }}
app.kubernetes.io/part-of: churn
{{- end }}

{{- define "churn.selector" -}}
app.kubernetes.io/name: churn
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "churn.image" -}}
image: {{ printf "%schurn-%s:%s" .root.Values.image.registry .image (default .root.Values.image.tag .tag) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- end }}

{{- define "churn.pod" -}}
serviceAccountName: {{ .account | default (printf "%s-app" .root.Release.Name) }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid | default 10001 }}
  runAsGroup: {{ .uid | default 10001 }}
  fsGroup: {{ .uid | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn.container-security" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "churn.environment" -}}
env:
  - name: CHURN_INSTANCE
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
{{- if and .root.Values.database.enabled (not .stateless) }}
  - name: CHURN_DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ .root.Values.database.secret }}
        key: url
{{- end }}
{{- range $name, $value := merge (dict) (.own | default dict) .root.Values.environment (.variables | default dict) }}
  - name: {{ $name }}
    value: {{ $value | quote }}
{{- end }}
{{- with .root.Values.environmentSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end }}

{{- define "churn.home-volume" -}}
- name: home
  persistentVolumeClaim:
    claimName: {{ .root.Values.home.existingClaim | default (printf "%s-home" .root.Release.Name) }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- end }}

{{- define "churn.writing-mounts" -}}
- name: home
  mountPath: /var/lib/churn
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "churn.dagster-pod-volumes" -}}
- name: dagster
  configMap:
    name: {{ .root.Release.Name }}-dagster
- name: dagster-home
  emptyDir: {}
{{- end }}

{{- define "churn.dagster-mounts" -}}
- name: dagster-home
  mountPath: /opt/dagster
- name: dagster
  mountPath: /opt/dagster/dagster.yaml
  subPath: dagster.yaml
  readOnly: true
- name: dagster
  mountPath: /opt/dagster/workspace.yaml
  subPath: workspace.yaml
  readOnly: true
{{- end }}

{{/* The pod of the service, for the Deployment or the Rollout. */}}
{{- define "churn.service-template" -}}
metadata:
  labels:
    {{- include "churn.labels" . | nindent 4 }}
spec:
  {{- include "churn.pod" . | nindent 2 }}
  terminationGracePeriodSeconds: 45
  {{- with .root.Values.service.topologyKeys }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "churn.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  initContainers:
    - {{- include "churn.folders" . | nindent 6 }}
  containers:
    - {{- include "churn.service-container" . | nindent 6 }}
  volumes:
    {{- include "churn.service-volumes" . | nindent 4 }}
{{- end }}

{{- define "churn.service-volumes" -}}
{{ include "churn.home-volume" . }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}

{{- define "churn.service-container" -}}
{{- $defaults := dict "CHURN_WORKERS" .root.Values.service.workers "CHURN_RUN_DIR" "/run/churn" "CHURN_SEGMENTS_DIR" "/segments" "BENTOML_HOME" "/tmp/bentoml" -}}
name: {{ .name | default "service" }}
{{ include "churn.image" (dict "root" .root "image" "service" "tag" .tag) }}
command: [churn, serve]
{{ include "churn.environment" (dict "root" .root "own" .root.Values.service.environment "variables" $defaults "stateless" true) }}
ports:
  - name: http
    containerPort: 3000
    protocol: TCP
  - name: grpc
    containerPort: 3003
    protocol: TCP
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
lifecycle:
  preStop:
    # Until every node has taken the pod out of its routes.
    sleep:
      seconds: 5
resources:
  {{- toYaml .root.Values.service.resources | nindent 2 }}
{{ include "churn.container-security" . }}
volumeMounts:
  - name: home
    mountPath: /var/lib/churn
    readOnly: true
  - name: home
    mountPath: /var/lib/churn/releases
    subPath: releases
  - name: home
    mountPath: /segments
    subPathExpr: predlog/$(CHURN_INSTANCE)
  - name: tmp
    mountPath: /tmp
  - name: run
    mountPath: /run/churn
{{- end }}

{{/* The folder of this pod in the log: made by the account that writes it, before it is mounted alone. */}}
{{- define "churn.folders" -}}
name: folders
{{ include "churn.image" (dict "root" .root "image" "service" "tag" .tag) }}
command: [mkdir, -p]
args: [/var/lib/churn/predlog/$(CHURN_INSTANCE), /var/lib/churn/releases]
env:
  - name: CHURN_INSTANCE
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
resources:
  requests: {cpu: 10m, memory: 32Mi}
  limits: {memory: 64Mi}
{{ include "churn.container-security" . }}
volumeMounts:
  - name: home
    mountPath: /var/lib/churn
{{- end }}
