{{/* A server of one pod with a volume of its own, for trying out. Its container comes from the caller. */}}
{{- define "churn.extra" -}}
{{- $name := printf "%s-%s" .root.Release.Name .component -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "churn.labels" . | nindent 4 }}
spec:
  serviceName: {{ $name }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "churn.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "churn.labels" . | nindent 8 }}
    spec:
      {{- include "churn.pod" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          image: {{ .own.image }}
          {{- .container | nindent 10 }}
          {{- include "churn.container-security" . | nindent 10 }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        resources:
          requests:
            storage: {{ .own.size | default "1Gi" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "churn.labels" . | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    {{- include "churn.selector" . | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .portName }}
      protocol: TCP
{{- end }}
