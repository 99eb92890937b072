package platform

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
)

func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// find finds, without what is this machine's own.
func find(t *testing.T, vars map[string]string) (p Platform, info map[string]any, errs []error) {
	t.Helper()
	p, errs = Find(t.Context(), lookup(vars))
	if _, err := structpb.NewStruct(p.Metadata); err != nil {
		t.Errorf("the metadata cannot go into a node: %v", err)
	}
	info, _ = p.Metadata[keyPlatform].(map[string]any)
	system, _ := info["systemInfo"].(map[string]any)
	if system["systemPlatform"] == "" || system["systemKernelVersion"] == "" {
		t.Errorf("system %v", system)
	}
	delete(info, "systemInfo")
	return p, info, errs
}

func serve(t *testing.T, pages map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.Method+" "+r.URL.Path]
		if !ok || strings.Contains(r.URL.Path, "meta-data") && r.Header.Get("X-aws-ec2-metadata-token") != "t0ken" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, page)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const taskPage = `{"Cluster":"shop","TaskARN":"arn:aws:ecs:eu-west-1:000000000001:task/shop/1","AvailabilityZone":"eu-west-1a","AvailabilityZoneID":"euw1-az2",
"Containers":[{"Type":"NORMAL","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.0.0.1"],"IPv6Addresses":["fd00::1"]}]}]}`

func TestECS(t *testing.T) {
	t.Parallel()
	url := serve(t, map[string]string{"GET /v4/x/task": taskPage, "GET /v4/x": `{"Limits":{"CPU":0.25,"Memory":512}}`})
	p, info, errs := find(t, map[string]string{
		"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "ECS_CONTAINER_METADATA_URI_V4": url + "/v4/x", "ECS_CONTAINER_METADATA_URI": url + "/v3",
		"ECS_CONTAINER_INSTANCE_ARN": "arn:instance", "APPNET_FIPS_MODE_ENABLED": "1",
	})
	want := map[string]any{
		"AvailabilityZone": "eu-west-1a", "AvailabilityZoneID": "euw1-az2", "supportedIPFamilies": "ALL", "fipsModeEnabled": true,
		"ecsPlatformInfo": map[string]any{
			"ecsLaunchType": "AWS_ECS_FARGATE", "ecsClusterArn": "shop", "ecsTaskArn": "arn:aws:ecs:eu-west-1:000000000001:task/shop/1",
			"ecsContainerInstanceArn": "arn:instance", "CPU": "0.25", "Memory": "512",
		},
	}
	if diff := cmp.Diff(want, info); diff != "" || len(errs) > 0 || p.Zone != "euw1-az2" {
		t.Errorf("zone %q, errors %v, metadata differs (-want +got):\n%s", p.Zone, errs, diff)
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	url := serve(t, map[string]string{
		"PUT /latest/api/token": "t0ken", "GET /latest/meta-data/placement/availability-zone": "eu-west-1a",
		"GET /latest/meta-data/placement/availability-zone-id": "euw1-az2\n",
	})
	vars := map[string]string{
		"APPMESH_PLATFORM_K8S_VERSION": "v1.30", "APPMESH_PLATFORM_K8S_POD_UID": "uid", "APPMESH_PLATFORM_APP_MESH_CONTROLLER_VERSION": "v1.12",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": url + "/",
	}
	pod := map[string]any{"k8sVersion": "v1.30", "podUid": "uid", "appMeshControllerVersion": "v1.12"}
	p, info, errs := find(t, vars)
	want := map[string]any{"AvailabilityZone": "eu-west-1a", "AvailabilityZoneID": "euw1-az2", "k8sPlatformInfo": pod}
	if diff := cmp.Diff(want, info); diff != "" || len(errs) > 0 || p.Zone != "euw1-az2" {
		t.Errorf("zone %q, errors %v, metadata differs (-want +got):\n%s", p.Zone, errs, diff)
	}
	// What the user says of the zone goes before, and with the service switched off nobody is asked.
	vars["FAIRLEAD_AVAILABILITY_ZONE"], vars["AWS_EC2_METADATA_DISABLED"] = "cellar", "true"
	p, info, errs = find(t, vars)
	if diff := cmp.Diff(map[string]any{"k8sPlatformInfo": pod}, info); diff != "" || len(errs) > 0 || p.Zone != "cellar" {
		t.Errorf("zone %q, errors %v, metadata differs (-want +got):\n%s", p.Zone, errs, diff)
	}
}

func TestNowhere(t *testing.T) {
	t.Parallel()
	p, info, errs := find(t, nil)
	if p.Zone != "" || len(info) > 0 || len(errs) > 0 {
		t.Errorf("found %+v, errors %v", p, errs)
	}
	all, _ := p.Metadata[keyInterfaces].(map[string]any)
	four, _ := all["ipv4"].(map[string]any)
	lo, _ := four["lo"].([]any)
	if len(lo) == 0 || lo[0] != "127.0.0.1/8" {
		t.Errorf("interfaces %v", all)
	}
}

// A metadata service that fails, hangs or talks nonsense costs what it would have told, and
// no more than a bounded time.
func TestBadServices(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(func() { close(hang); slow.Close() })
	for name, url := range map[string]string{
		"hangs": slow.URL, "nothing there": "http://127.0.0.1:1", "not found": serve(t, nil),
		"nonsense": serve(t, map[string]string{"GET /": "no JSON", "GET /task": `{"Containers":7}`}) + "/",
	} {
		p, info, errs := find(t, map[string]string{"AWS_EXECUTION_ENV": "AWS_ECS_EC2", "ECS_CONTAINER_METADATA_URI": strings.TrimSuffix(url, "/")})
		if diff := cmp.Diff(map[string]any{"ecsPlatformInfo": map[string]any{"ecsLaunchType": "AWS_ECS_EC2"}}, info); diff != "" || len(errs) != 2 || p.Zone != "" {
			t.Errorf("%s: zone %q, errors %v, metadata differs (-want +got):\n%s", name, p.Zone, errs, diff)
		}
	}
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ page, want string }{
		{`{}`, ""},
		{`{"Containers":[{"Networks":[{"NetworkMode":"awsvpc","IPv6Addresses":["fd00::1"]}]}]}`, "IPv6_ONLY"},
		{`{"Containers":[{"Networks":[{"NetworkMode":"host"}]}]}`, ""},
		{`{"Containers":[{"Networks":[{"NetworkMode":"bridge","IPv4Addresses":["10.0.0.1"]}]},{"Type":"CNI_PAUSE","Networks":[{"NetworkMode":"none","IPv4Addresses":["10.0.0.2"]}]}]}`, "IPv4_ONLY"},
		{`{"Containers":[{"Networks":[{"NetworkMode":"bridge","IPv4Addresses":["10.0.0.1"]}]}]}`, ""},
	} {
		var x task
		if err := json.Unmarshal([]byte(c.page), &x); err != nil {
			t.Fatal(err)
		}
		if got := x.families(); got != c.want {
			t.Errorf("%s: %q, want %q", c.page, got, c.want)
		}
	}
}
