// Package kubernetes tests the manifests beside it. It is a separate module because kustomize is large.
package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// TestOverlays builds each overlay as `kubectl apply -k` does and compares it with the schemas of Kubernetes. Every object that a
// pod names must exist.
func TestOverlays(t *testing.T) {
	for overlay, want := range map[string][]string{
		"sidecar":           {"ConfigMap", "Deployment", "NetworkPolicy", "Service"},
		"server-daemonset":  {"ConfigMap", "DaemonSet", "NetworkPolicy", "Service"},
		"client-deployment": {"ConfigMap", "Deployment", "NetworkPolicy", "Service"},
		"client-daemonset":  {"ConfigMap", "DaemonSet", "NetworkPolicy"},
	} {
		t.Run(overlay, func(t *testing.T) {
			all := make(map[string]object)
			for _, text := range build(t, overlay) {
				var o object
				if err := json.Unmarshal(text, &o); err != nil {
					t.Fatal(err)
				}
				all[o.Kind] = o
			}
			if kinds := slices.Sorted(maps.Keys(all)); !slices.Equal(kinds, want) {
				t.Fatalf("it has %v, want %v", kinds, want)
			}
			fits(t, all)
		})
	}
}

// TestMistakesAreFound checks that mistakes in resources are reported.
func TestMistakesAreFound(t *testing.T) {
	for text, want := range map[string]string{
		`{"apiVersion":"v1","kind":"Service","spec":{"clusterIp":"None"}}`:                         "Service.spec.clusterIp: there is no such field",
		`{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"name":"http"}]}}`:                  "Service.spec.ports[0]: port is missing",
		`{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"port":"80"}]}}`:                    "Service.spec.ports[0].port: string, want [integer]",
		`{"apiVersion":"apps/v2","kind":"Deployment"}`:                                             "Deployment: there is no schema of apps/v2",
		`{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"port":80,"targetPort":"links"}]}}`: "[]",
	} {
		if got := fmt.Sprint(mistakes([]byte(text))); got != want && got != "["+want+"]" {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// build returns the resources of an overlay, each in JSON.
func build(t *testing.T, overlay string) (all [][]byte) {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range built.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mistakes(text) {
			t.Error(m)
		}
		all = append(all, text)
	}
	return all
}

// mistakes compares a resource with its schema from kustomize.
func mistakes(text []byte) []string {
	var o object
	var value any
	if err := json.Unmarshal(text, &o); err != nil {
		return []string{err.Error()}
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return []string{err.Error()}
	}
	schema := openapi.SchemaForResourceType(yaml.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind})
	if schema == nil {
		return []string{o.Kind + ": there is no schema of " + o.APIVersion}
	}
	return compare(o.Kind, value, schema)
}

// compare returns the mistakes in a value and in all nested values.
func compare(at string, value any, schema *openapi.ResourceSchema) (all []string) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range schema.Schema.Required {
			if _, ok := v[name]; !ok {
				all = append(all, at+": "+name+" is missing")
			}
		}
		for name, field := range v {
			if s := schema.Field(name); s == nil {
				all = append(all, at+"."+name+": there is no such field")
			} else {
				all = append(all, compare(at+"."+name, field, s)...)
			}
		}
	case []any:
		s := schema.Elements()
		if s == nil {
			return []string{at + ": is no list"}
		}
		for i, element := range v {
			all = append(all, compare(fmt.Sprintf("%s[%d]", at, i), element, s)...)
		}
	default:
		is := map[string]string{"string": "string", "float64": "integer", "bool": "boolean"}[fmt.Sprintf("%T", v)]
		if !schema.Schema.Type.Contains(is) && schema.Schema.Format != "int-or-string" {
			all = append(all, fmt.Sprintf("%s: %s, want %v", at, is, schema.Schema.Type))
		}
	}
	return all
}

// fits checks that the parts of an overlay refer to each other correctly.
func fits(t *testing.T, all map[string]object) {
	t.Helper()
	workload, ok := all["Deployment"]
	if !ok {
		workload = all["DaemonSet"]
	}
	pod := workload.Spec.Template
	matches(t, "the workload", workload.Spec.Selector["matchLabels"], pod.Metadata.Labels)
	matches(t, "the policy", all["NetworkPolicy"].Spec.PodSelector["matchLabels"], pod.Metadata.Labels)
	if service, ok := all["Service"]; ok {
		labels := make(map[string]any)
		maps.Copy(labels, service.Spec.Selector)
		matches(t, "the service", labels, pod.Metadata.Labels)
	}

	server := pod.Metadata.Labels["app.kubernetes.io/name"] == "portredirector-server"
	file := all["ConfigMap"]
	if file.Data["portredirector.toml"] == "" {
		t.Error("the ConfigMap has no file")
	}
	mounts := map[string]string{"file": "/etc/portredirector", "key": "/run/secrets/portredirector"}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap.Name+v.Secret.SecretName != file.Metadata.Name || mounts[v.Name] == "" {
			t.Errorf("volume %s is neither the file nor the key", v.Name)
		}
	}
	for _, c := range pod.Spec.Containers {
		ours := c.Name == "portredirector"
		if admin := slices.Contains(c.SecurityContext.Capabilities.Add, "NET_ADMIN"); admin != (ours && server) {
			t.Errorf("container %s: NET_ADMIN %v", c.Name, admin)
		}
		if !ours {
			continue
		}
		if !slices.Equal(c.Args, []string{"run", "/etc/portredirector/portredirector.toml"}) {
			t.Errorf("arguments %q", c.Args)
		}
		for _, m := range c.VolumeMounts {
			if mounts[m.Name] != m.MountPath {
				t.Errorf("%s is mounted at %s", m.Name, m.MountPath)
			}
		}
		if len(c.VolumeMounts) != len(mounts) || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Error("a volume or a probe is missing")
		}
	}
}

// matches checks that the only selector selects the pods.
func matches(t *testing.T, of string, selector any, labels map[string]string) {
	t.Helper()
	want, ok := selector.(map[string]any)
	if !ok || len(want) == 0 {
		t.Errorf("%s selects nothing", of)
	}
	for name, value := range want {
		if labels[name] != value {
			t.Errorf("%s selects %s=%v, the pods have %q", of, name, value, labels[name])
		}
	}
}

// object has the fields of a resource that the test reads.
type object struct {
	APIVersion string
	Kind       string
	Metadata   metadata
	Data       map[string]string
	Spec       struct {
		Selector, PodSelector map[string]any
		Template              struct {
			Metadata metadata
			Spec     struct {
				Containers []container
				Volumes    []struct {
					Name      string
					ConfigMap struct{ Name string }
					Secret    struct{ SecretName string }
				}
			}
		}
	}
}

type metadata struct {
	Name   string
	Labels map[string]string
}

type container struct {
	Name            string
	Args            []string
	SecurityContext struct{ Capabilities struct{ Add []string } }
	VolumeMounts    []struct{ Name, MountPath string }
	ReadinessProbe  struct{ HTTPGet struct{ Path string } }
}
