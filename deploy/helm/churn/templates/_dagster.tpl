{{/* Judges the release that runs: the service cannot, whose home is read-only. */}}
{{- define "churn.guard" -}}
- name: guard
  {{- include "churn.image" (dict "root" .root "image" "pipeline") | nindent 2 }}
  command: [churn, release, watch]
  {{- include "churn.environment" (dict "root" .root) | nindent 2 }}
  resources:
    requests: {cpu: 50m, memory: 256Mi}
    limits: {memory: 512Mi}
  {{- include "churn.container-security" . | nindent 2 }}
  volumeMounts:
    {{- include "churn.writing-mounts" . | nindent 4 }}
{{- end }}

{{/* The Dagster instance of a cluster. `concurrency` is that of dagster.yaml in the repository; a test compares. */}}
{{- define "churn.dagster" -}}
telemetry:
  enabled: false
# The database of CHURN_DATABASE_URL, in a schema of its own.
storage:
  custom:
    module: churn_assets.defs.runs.storage
    class: HomeStorage
    config: {}
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config:
    base_dir: /var/lib/churn/dagster
compute_logs:
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config:
    base_dir: /var/lib/churn/dagster/storage
concurrency:
  runs:
    max_concurrent_runs: {{ .Values.pipeline.maxRuns }}
    # Trainings of one home would mix their tables, and the ingest is the only writer of DuckDB.
    tag_concurrency_limits:
      - key: churn/models
        limit: 1
      - key: churn/log
        limit: 1
  pools:
    default_limit: 1
    granularity: op
sensors:
  use_threads: true
  num_workers: 2
schedules:
  use_threads: true
  num_workers: 2
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    job_namespace: {{ .Release.Namespace }}
    service_account_name: {{ .Release.Name }}-pipeline
    dagster_home: /opt/dagster
    instance_config_map: {{ .Release.Name }}-dagster
    job_image: {{ printf "%schurn-pipeline:%s" .Values.image.registry .Values.image.tag | quote }}
    image_pull_policy: {{ .Values.image.pullPolicy }}
    {{- with .Values.image.pullSecrets }}
    image_pull_secrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with .Values.environmentSecret }}
    env_secrets: [{{ . }}]
    {{- end }}
    run_k8s_config:
      job_spec_config:
        ttl_seconds_after_finished: 86400
        backoff_limit: 0
      pod_template_spec_metadata:
        labels:
          {{- include "churn.labels" (dict "root" . "component" "pipeline-run") | nindent 10 }}
      pod_spec_config:
        automount_service_account_token: false
        security_context:
          run_as_non_root: true
          run_as_user: 10001
          run_as_group: 10001
          fs_group: 10001
          fs_group_change_policy: OnRootMismatch
          seccomp_profile:
            type: RuntimeDefault
        volumes:
          - name: home
            persistent_volume_claim:
              claim_name: {{ .Values.home.existingClaim | default (printf "%s-home" .Release.Name) }}
          - name: tmp
            empty_dir:
              size_limit: 4Gi
      container_config:
        security_context:
          allow_privilege_escalation: false
          privileged: false
          read_only_root_filesystem: true
          capabilities:
            drop: [ALL]
        resources:
          {{- toYaml .Values.pipeline.runResources | nindent 10 }}
        env:
          - name: CHURN_DATABASE_URL
            value_from:
              secret_key_ref:
                name: {{ .Values.database.secret }}
                key: url
          - name: CHURN_INSTANCE
            value_from:
              field_ref:
                field_path: metadata.name
          {{- range $name, $value := merge (dict) .Values.pipeline.environment .Values.environment }}
          - name: {{ $name }}
            value: {{ $value | quote }}
          {{- end }}
        volume_mounts:
          - name: home
            mount_path: /var/lib/churn
          - name: tmp
            mount_path: /tmp
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 30
  start_timeout_seconds: 300  # an image may have to be pulled first
auto_materialize:
  enabled: false
  use_sensors: false
freshness:
  enabled: false
nux:
  enabled: false
{{- end }}
