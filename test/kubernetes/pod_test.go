//go:build linux

package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	service    = "colour.shop.local"
	serviceURL = "http://colour.shop.local:8080/"
)

// The application of a pod calls out in its first moment and in its last. Where it is held
// until Envoy is ready, or its connections wait while there is no Envoy, no call fails, though
// Envoy waits for its configuration when the pod starts.
func TestTheFirstCallOfAPod(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file   string
		change func(*pod)
		held   bool   // the application is started after Envoy is ready
		first  string // what becomes of its first call
	}{
		"native sidecar": {"sidecar.yaml", nil, true, "answered"},
		"postStart":      {"poststart.yaml", nil, true, "answered"},
		"waiting":        {"sidecar.yaml", func(p *pod) { hurry(p); wait(p) }, false, "answered"},
		"neither":        {"sidecar.yaml", hurry, false, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meshtest.EnvoyPath(t) // skips before anything is started
			hosts, plane := meshtest.NewHosts(t), meshtest.Start(t)
			plane.Put(t, "/meshes", `{"meshName":"shop","spec":{"egressFilter":{"type":"DROP_ALL"}}}`)
			plane.Node(t, "shop", "colour", "colour", 8080)
			plane.Put(t, "/meshes/shop/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"colour"}}}}`)
			colour := hosts.Add("colour")
			colour.Serve(8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "colour") }))
			nowhere := hosts.Nowhere()
			hosts.Names.Set(service, nowhere[0])

			d := manifest(t, c.file)
			if c.change != nil {
				c.change(&d.Spec.Template.Spec)
			}
			k := newKubelet(t, hosts, plane)
			ran := make(chan error, 1)
			go func() { ran <- k.run(d.Spec.Template.Spec) }()
			log := k.logOf
			meshtest.Eventually(t, "Envoy runs and waits for its configuration", func() error {
				if !strings.Contains(log("envoy"), "connected to the control plane") && !strings.Contains(log("envoy"), "refuses the stream") {
					return errStill
				}
				return nil
			})
			if !c.held {
				meshtest.Eventually(t, "the application runs", func() error { return k.there("cart") })
			} else if k.there("cart") == nil {
				t.Error("the application was started before Envoy was ready")
			}
			if c.first == "refused" {
				meshtest.Eventually(t, "the application has called", func() error { return contains(log("cart"), "call failed") })
			}
			if strings.Contains(log("cart"), "answered") {
				t.Error("the application's call was answered without an Envoy")
			}
			plane.Node(t, "shop", "cart", "cart", 8080, service)
			if err := <-ran; err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"answered": "call answered: 200 colour", "refused": "connection refused"}[c.first]
			meshtest.Eventually(t, "the application's first call was "+c.first, func() error { return contains(log("cart"), want) })
			meshtest.Eventually(t, "Envoy serves", func() error { return contains(log("envoy"), `msg="Envoy serves"`) })
			k.stop(d.Spec.Template.Spec)
			if text := log("cart"); strings.Count(text, "call answered: 200 colour") != strings.Count(text, "call ") && c.first == "answered" || !strings.HasSuffix(strings.TrimSpace(text), "200 colour <nil>") {
				t.Errorf("the application's calls:\n%s", text)
			}
		})
	}
}

var errStill = errors.New("not yet")

func contains(text, part string) error {
	if !strings.Contains(text, part) {
		return fmt.Errorf("%q", text)
	}
	return nil
}

// hurry has nothing wait for Envoy.
func hurry(p *pod) {
	for i := range p.InitContainers {
		p.InitContainers[i].StartupProbe = nil
	}
}

// wait has connections wait while Envoy is away.
func wait(p *pod) {
	i := slices.IndexFunc(p.InitContainers, func(c container) bool { return c.Name == "intercept" })
	p.InitContainers[i].Env = append(p.InitContainers[i].Env, struct{ Name, Value string }{rules.WhileAwayName, rules.Wait})
}

func newKubelet(t *testing.T, hosts *meshtest.Hosts, plane *meshtest.Plane) *kubelet {
	t.Helper()
	dir, err := os.MkdirTemp("", "pod-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // users of containers look into it
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	app, variables := meshtest.FirstCall(t, serviceURL, "")
	return &kubelet{
		t: t, host: hosts.Add("cart"), dir: dir, app: app,
		secrets: map[string][]string{"cart-fairlead": {"AWS_ACCESS_KEY_ID=" + plane.Creds.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + plane.Creds.SecretAccessKey}},
		more: map[string][]string{
			"cart": variables,
			"envoy": {
				"FAIRLEAD_XDS_ENDPOINT=" + hosts.Reach(plane.Addrs.XDS),
				"FAIRLEAD_XDS_PLAINTEXT=insecure", // inside one machine
				"ENVOY_CONCURRENCY=1", "LISTENER_DRAIN_WAIT_TIME_S=5", "AWS_EC2_METADATA_DISABLED=true", "ENVOY_ADMIN_ACCESS_LOG_FILE=/dev/null",
			},
		},
		installed: map[string]string{}, running: map[string]*process{},
	}
}
