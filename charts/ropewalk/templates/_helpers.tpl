{{/* Labels of every object; given (dict "root" $ "part" "hub"). */}}
{{- define "ropewalk.labels" -}}
{{ include "ropewalk.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
ropewalk.dev/installation: {{ .root.Values.prefix }}
{{- end }}

{{- define "ropewalk.selector" -}}
app.kubernetes.io/name: ropewalk
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* The settings as a dict: what values say, and what this chart knows better. */}}
{{- define "ropewalk.settings" -}}
{{- $fixed := dict "namespace" .Release.Namespace "prefix" .Values.prefix "secrets" "/etc/ropewalk/secrets" -}}
{{- $_ := set $fixed "images" (pick .Values.images "hub" "notebook" "runner") -}}
{{- $cluster := merge $fixed (deepCopy (.Values.settings.cluster | default dict)) -}}
{{- if not (hasKey $cluster "api_server") -}}
{{- $found := list -}}
{{- $slice := lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" -}}
{{- range $port := ($slice.ports | default list) -}}
{{- range $end := ($slice.endpoints | default list) -}}
{{- range $address := $end.addresses -}}
{{- $found = append $found (printf "%s:%d" $address (int $port.port)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $cluster "api_server" (sortAlpha $found) -}}
{{- end -}}
{{- $door := merge (dict "bind" "0.0.0.0") (deepCopy (.Values.settings.door | default dict)) -}}
{{- $all := deepCopy .Values.settings -}}
{{- $_ := set $all "backend" "kube" -}}
{{- $_ := set $all "cluster" $cluster -}}
{{- $_ := set $all "door" $door -}}
{{- toJson $all -}}
{{- end }}

{{- define "ropewalk.port" -}}
{{- dig "door" "port" 8000 .Values.settings | int -}}
{{- end }}

{{- define "ropewalk.peoplePort" -}}
{{- add (include "ropewalk.port" .) 1 -}}
{{- end }}

{{- define "ropewalk.host" -}}
{{- dig "door" "host" "localhost" .Values.settings -}}
{{- end }}

{{- define "ropewalk.origin" -}}
{{- printf "%s://%s:%s" (dig "door" "scheme" "http" .Values.settings) (include "ropewalk.host" .) (include "ropewalk.port" .) -}}
{{- end }}

{{/* A restart is needed when a group of settings changes that the program reads; given (dict "root" $ "without" (list "accounts")). */}}
{{- define "ropewalk.checksum" -}}
{{- $all := include "ropewalk.settings" .root | fromJson -}}
{{- range .without }}{{ $_ := unset $all . }}{{ end -}}
ropewalk.dev/settings: {{ $all | toJson | sha256sum | trunc 16 }}
{{- end }}

{{- define "ropewalk.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* What every container of ours has; given (dict "root" $ "part" "hub" "image" "hub"). */}}
{{- define "ropewalk.container" -}}
image: {{ index .root.Values.images .image }}
imagePullPolicy: {{ .root.Values.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml (index .root.Values.resources .part) | nindent 2 }}
{{- end }}

{{- define "ropewalk.environment" -}}
- {name: ROPEWALK_HOME, value: /var/lib/ropewalk}
- {name: HOME, value: /tmp}
{{- end }}

{{- define "ropewalk.settingsMount" -}}
- {name: settings, mountPath: /var/lib/ropewalk/ropewalk.toml, subPath: ropewalk.toml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "ropewalk.settingsVolumes" -}}
- {name: settings, configMap: {name: settings}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
{{- end }}

{{- define "ropewalk.part" }}
podSelector:
  matchLabels:
    app.kubernetes.io/name: ropewalk
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: {{ toJson . }}}
{{- end }}
{{- define "ropewalk.policy" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .part }}
  labels: {{- include "ropewalk.labels" (dict "root" .root "part" .part) | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "ropewalk.selector" (dict "part" .part) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: {{- toYaml .ingress | nindent 4 }}
  egress: {{- toYaml .egress | nindent 4 }}
{{- end }}

{{- define "ropewalk.service" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels: {{- include "ropewalk.labels" (dict "root" .root "part" .part) | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .type }}
  type: {{ . }}
  {{- end }}
  {{- with .sources }}
  loadBalancerSourceRanges: {{- toYaml . | nindent 4 }}
  {{- end }}
  selector: {{- include "ropewalk.selector" (dict "part" .part) | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}, protocol: TCP}
    {{- end }}
{{- end }}
