// Package platform finds out where an Envoy runs: its zone, what the container platform says
// of it, and its addresses. It goes into the node's metadata in the form that App Mesh's agent
// uses; nothing that an Envoy is sent depends on it. It may import the standard library only.
package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Platform is where an Envoy runs. The zero value is nowhere known.
type Platform struct {
	// Zone is the zone's id, for example use1-az1, or the name that the user gave it.
	Zone string
	// Metadata are members of the node's metadata, of strings, truth values and maps and
	// lists of these.
	Metadata map[string]any
}

// Keys of the metadata.
const (
	keyInterfaces = "aws.appmesh.task.interfaces"
	keyPlatform   = "aws.appmesh.platformInfo"
)

// patience bounds all that is asked of metadata services: an Envoy's start waits for it.
const patience = 500 * time.Millisecond

// Find finds out by variables, the host's own interfaces, and the metadata services that the
// variables speak of: that of ECS, and where Kubernetes is spoken of that of EC2. What cannot
// be found is left out; the errors are worth a line in a log.
func Find(ctx context.Context, lookup func(string) (string, bool)) (Platform, []error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f := &finder{lookup: lookup, info: map[string]any{}, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}}
	f.kubernetes(ctx)
	f.ecs(ctx)
	if system := systemInfo(); system != nil {
		f.info["systemInfo"] = system
	}
	if v := strings.ToLower(f.text("APPNET_FIPS_MODE_ENABLED")); v == "1" || v == "true" {
		f.info["fipsModeEnabled"] = true
	}
	p := Platform{Zone: f.text("FAIRLEAD_AVAILABILITY_ZONE"), Metadata: map[string]any{}}
	if id, ok := f.info[keyZoneID].(string); ok && p.Zone == "" {
		p.Zone = id
	}
	if len(f.info) > 0 {
		p.Metadata[keyPlatform] = f.info
	}
	if all, err := interfaces(); err != nil {
		f.errors = append(f.errors, fmt.Errorf("reading the network interfaces: %w", err))
	} else if len(all) > 0 {
		p.Metadata[keyInterfaces] = all
	}
	return p, f.errors
}

// finder collects what is found.
type finder struct {
	lookup func(string) (string, bool)
	http   *http.Client
	info   map[string]any
	errors []error
}

const (
	keyZone   = "AvailabilityZone"
	keyZoneID = "AvailabilityZoneID"
)

func (f *finder) text(name string) string {
	v, _ := f.lookup(name)
	return v
}

// put notes a text, if there is one.
func put(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

// kubernetes notes what App Mesh's controller has put into the pod, and asks EC2 for the zone,
// which the controller does not know.
func (f *finder) kubernetes(ctx context.Context) {
	version, pod, controller := f.text("APPMESH_PLATFORM_K8S_VERSION"), f.text("APPMESH_PLATFORM_K8S_POD_UID"), f.text("APPMESH_PLATFORM_APP_MESH_CONTROLLER_VERSION")
	if version == "" || pod == "" || controller == "" {
		return
	}
	f.info["k8sPlatformInfo"] = map[string]any{"k8sVersion": version, "podUid": pod, "appMeshControllerVersion": controller}
	if strings.EqualFold(f.text("AWS_EC2_METADATA_DISABLED"), "true") {
		return
	}
	base := f.text("AWS_EC2_METADATA_SERVICE_ENDPOINT")
	if base == "" {
		base = "http://169.254.169.254"
	}
	base = strings.TrimSuffix(base, "/")
	token, err := f.ask(ctx, http.MethodPut, base+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	var zone, id []byte
	if err == nil {
		var errZone, errID error
		var both sync.WaitGroup
		const place, header = "/latest/meta-data/placement/", "X-aws-ec2-metadata-token"
		both.Go(func() {
			zone, errZone = f.ask(ctx, http.MethodGet, base+place+"availability-zone", header, string(token))
		})
		both.Go(func() {
			id, errID = f.ask(ctx, http.MethodGet, base+place+"availability-zone-id", header, string(token))
		})
		both.Wait()
		if err = errZone; err == nil {
			err = errID
		}
	}
	if err != nil {
		f.errors = append(f.errors, fmt.Errorf("asking EC2's metadata service for the zone: %w", err))
	}
	put(f.info, keyZone, strings.TrimSpace(string(zone)))
	put(f.info, keyZoneID, strings.TrimSpace(string(id)))
}

// ask sends a request and returns the body of an answer with status 200.
func (f *finder) ask(ctx context.Context, method, url, header, value string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	res, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, 1<<20))
}

// network and task are the parts that are used of what ECS's metadata service tells.
type network struct {
	NetworkMode   string
	IPv4Addresses []string
	IPv6Addresses []string
}

type task struct {
	Cluster, TaskARN   string
	AvailabilityZone   string
	AvailabilityZoneID string
	Containers         []struct {
		Type     string
		Networks []network
	}
}

type container struct {
	Limits struct{ CPU, Memory json.Number }
}

// ecs notes what ECS tells of the task.
func (f *finder) ecs(ctx context.Context) {
	launch := f.text("AWS_EXECUTION_ENV")
	if launch == "" {
		return
	}
	info := map[string]any{"ecsLaunchType": launch}
	put(info, "ecsContainerInstanceArn", f.text("ECS_CONTAINER_INSTANCE_ARN"))
	f.info["ecsPlatformInfo"] = info
	base := f.text("ECS_CONTAINER_METADATA_URI_V4")
	if base == "" {
		base = f.text("ECS_CONTAINER_METADATA_URI")
	}
	if base == "" {
		return
	}
	var t task
	var c container
	var errTask, errContainer error
	var both sync.WaitGroup
	both.Go(func() { errTask = f.decode(ctx, base+"/task", &t) })
	both.Go(func() { errContainer = f.decode(ctx, base, &c) })
	both.Wait()
	for _, err := range []error{errTask, errContainer} {
		if err != nil {
			f.errors = append(f.errors, fmt.Errorf("asking ECS's metadata service: %w", err))
		}
	}
	put(info, "ecsClusterArn", t.Cluster)
	put(info, "ecsTaskArn", t.TaskARN)
	put(info, "CPU", c.Limits.CPU.String())
	put(info, "Memory", c.Limits.Memory.String())
	put(f.info, keyZone, t.AvailabilityZone)
	put(f.info, keyZoneID, t.AvailabilityZoneID)
	put(f.info, "supportedIPFamilies", t.families())
}

func (f *finder) decode(ctx context.Context, url string, into any) error {
	b, err := f.ask(ctx, http.MethodGet, url, "", "")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decoding what it says: %w", err)
	}
	return nil
}

// families says which IP families the task has. In bridge mode the containers' own networks
// have IPv4 only, and that of the pause container counts.
func (t task) families() string {
	mode := ""
	for _, c := range t.Containers {
		for _, n := range c.Networks {
			if mode == "" {
				mode = n.NetworkMode
			}
		}
	}
	for i, c := range t.Containers {
		if mode == "awsvpc" && i == 0 || mode == "bridge" && c.Type == "CNI_PAUSE" {
			return families(c.Networks)
		}
	}
	return ""
}

func families(networks []network) string {
	var four, six bool
	for _, n := range networks {
		four, six = four || len(n.IPv4Addresses) > 0, six || len(n.IPv6Addresses) > 0
	}
	switch {
	case four && six:
		return "ALL"
	case four:
		return "IPv4_ONLY"
	case six:
		return "IPv6_ONLY"
	}
	return ""
}

// interfaces returns the host's addresses with their prefixes, by family and interface.
func interfaces() (map[string]any, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			family := "ipv6"
			if prefix.Addr().Is4() {
				family = "ipv4"
			}
			byName, _ := out[family].(map[string]any)
			if byName == nil {
				byName = map[string]any{}
				out[family] = byName
			}
			list, _ := byName[i.Name].([]any)
			byName[i.Name] = append(list, a.String())
		}
	}
	return out, nil
}
