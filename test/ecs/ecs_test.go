//go:build linux

package ecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/ecs"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The golden cases that are run, and the resources that they stand for.
const (
	storefrontTask = "fargate-virtual-node"
	colourTask     = "ec2-virtual-node"
	doorTask       = "virtual-gateway"
)

var resources = map[string]string{
	storefrontTask: "virtualNode/storefront", colourTask: "virtualNode/colour", doorTask: "virtualGateway/door",
}

// metadataAddress is where ECS has its endpoints for containers.
const metadataAddress = "169.254.170.2"

// newPlane runs a control plane with the mesh that the three tasks were written for, and
// returns it with the secrets that its administrator has put into AWS: a key for each task,
// which may stream that task's resources and nothing else.
func newPlane(t *testing.T, hostOf func(node string) string) (*meshtest.Plane, map[string]string) {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"shop","spec":{"egressFilter":{"type":"DROP_ALL"}}}`)
	p.Node(t, "shop", "storefront", hostOf("storefront"), 8080, "colour.shop.local")
	p.Node(t, "shop", "colour", hostOf("colour"), 8080)
	for _, name := range []string{"storefront", "colour"} {
		p.Put(t, "/meshes/shop/virtualServices", fmt.Sprintf(
			`{"virtualServiceName":"%s.shop.local","spec":{"provider":{"virtualNode":{"virtualNodeName":%[1]q}}}}`, name))
	}
	p.Put(t, "/meshes/shop/virtualGateways", `{"virtualGatewayName":"door","spec":{"listeners":[{"portMapping":{"port":8088,"protocol":"http"}}]}}`)
	p.Put(t, "/meshes/shop/virtualGateway/door/gatewayRoutes", `{"gatewayRouteName":"all","spec":{"httpRoute":{"match":{"prefix":"/"},
		"action":{"target":{"virtualService":{"virtualServiceName":"storefront.shop.local"}}}}}}`)
	parameter := "arn:aws:ssm:" + meshtest.Region + ":" + meshtest.Account + ":parameter/shop/"
	secrets := map[string]string{parameter + "api-token": "token", parameter + "cloudwatch-agent": "{}"}
	for task, resource := range resources {
		key := p.Signed(t).User(t, task, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Action":"appmesh:StreamAggregatedResources","Resource":"arn:aws:appmesh:%s:%s:mesh/shop/%s"}]}`, meshtest.Region, meshtest.Account, resource))
		text, err := json.Marshal(map[string]string{"AWS_ACCESS_KEY_ID": key.AccessKeyID, "AWS_SECRET_ACCESS_KEY": key.SecretAccessKey})
		if err != nil {
			t.Fatal(err)
		}
		secrets[secretARN(task)] = string(text)
	}
	return p, secrets
}

// endpoints serves the metadata and the role's credentials of tasks.
func endpoints() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v4/{container}/task", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"Cluster":"test","TaskARN":"arn:aws:ecs:%s:%s:task/test/%s","LaunchType":"FARGATE","AvailabilityZone":"%[1]sa"}`,
			meshtest.Region, meshtest.Account, r.PathValue("container"))
	})
	mux.HandleFunc("GET /v2/credentials/{task}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"RoleArn":"arn:aws:iam::%s:role/%s","AccessKeyId":"ASIATASK","SecretAccessKey":"of-aws","Token":"of-aws","Expiration":%q}`,
			meshtest.Account, r.PathValue("task"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	return mux
}

// greet has a database greet whoever comes.
func greet(l net.Listener) {
	go meshtest.HandleConns(l, func(c net.Conn) {
		fmt.Fprintln(c, "database")
		_ = c.Close()
	})
}

// onHosts runs the tasks' mesh on network namespaces. It returns how to convert and start
// a task on a host of its node's name.
func onHosts(t *testing.T) (hosts *meshtest.Hosts, start func(task string, change func(*ecs.Options)) *task) {
	t.Helper()
	hosts = meshtest.NewHosts(t)
	plane, secrets := newPlane(t, func(node string) string { return node })
	p := &platform{t: t, metadata: "http://" + metadataAddress, credentials: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=", secrets: secrets}
	hosts.ServeAt(metadataAddress, "80", endpoints())
	nowhere := hosts.Nowhere()
	hosts.Names.Set("colour.shop.local", nowhere[0])
	database := hosts.Add("database")
	hosts.Names.Set("database.shop.local", database.V4)
	greet(database.Listen(":5432"))
	return hosts, func(name string, change func(*ecs.Options)) *task {
		_, host, _ := strings.Cut(resources[name], "/")
		d := converted(t, name, hosts.Reach(plane.Addrs.XDS), change)
		return p.run(d, &hostPlace{Host: hosts.Add(host), t: t, installed: map[string]string{}})
	}
}

// The three tasks run as ECS runs them, and the containers beside Envoy, which know nothing
// of it, work as they did.
func TestTasks(t *testing.T) {
	t.Parallel()
	hosts, start := onHosts(t)
	colour, storefront, door := start(colourTask, nil), start(storefrontTask, nil), start(doorTask, nil)
	outside := hosts.Add("outside").HTTP("tcp4")
	works(t, outside, "http://door:8088", colour, storefront, door)
}

// Where no connection can be redirected, the same tasks run with Envoy as a proxy that the
// application is told of.
func TestTasksBound(t *testing.T) {
	t.Parallel()
	database, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close() })
	greet(database)
	metadata := httptest.NewServer(endpoints())
	t.Cleanup(metadata.Close)
	places := map[string]*boundPlace{}
	for _, node := range []string{"storefront", "colour", "door"} {
		places[node] = &boundPlace{bind: meshtest.Address(t), app: meshtest.Address(t), database: database.Addr().String()}
	}
	plane, secrets := newPlane(t, func(node string) string { return places[node].bind })
	p := &platform{t: t, metadata: metadata.URL, credentials: "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + metadata.URL, secrets: secrets}
	start := func(name string) *task {
		_, node, _ := strings.Cut(resources[name], "/")
		return p.run(converted(t, name, plane.Addrs.XDS, nil), places[node])
	}
	colour, storefront, door := start(colourTask), start(storefrontTask), start(doorTask)
	client := &http.Client{Timeout: 20 * time.Second}
	works(t, client, "http://"+places["door"].bind+":8088", colour, storefront, door)
}

// On EC2 a container of the task can set the rules, before all others and in the place of
// the platform.
func TestInitContainer(t *testing.T) {
	t.Parallel()
	hosts, start := onHosts(t)
	colour := start(colourTask, func(o *ecs.Options) { o.Intercept = ecs.InterceptInit })
	if got := colour.order[0]; got != "fairlead-intercept" || colour.ProxyConfiguration != nil {
		t.Errorf("the first container is %s, and proxyConfiguration is %v", got, colour.ProxyConfiguration)
	}
	outside := hosts.Add("outside").HTTP("tcp4")
	for path, want := range map[string]string{"/": "colour <b>Grüße & Küsse</b>", "/database": "database\n"} {
		answered(t, outside, "http://colour:8080"+path, want)
	}
	if got := colour.statistic("http.ingress.downstream_rq_total"); got < 2 {
		t.Errorf("%d of at least 2 requests came in by Envoy", got)
	}
}

// works shows that the tasks do what they are for, and end as they should.
func works(t *testing.T, client *http.Client, door string, tasks ...*task) {
	t.Helper()
	colour, storefront, gateway := tasks[0], tasks[1], tasks[2]
	for path, want := range map[string]string{
		"/":         "storefront: colour <b>Grüße & Küsse</b>",
		"/database": "storefront: database\n", // on a port that is ignored, in a mesh that lets nothing out
		"/whoami": fmt.Sprintf("arn:aws:ecs:%s:%s:task/test/shop-storefront-storefront arn:aws:iam::%[2]s:role/shop-storefront ASIATASK",
			meshtest.Region, meshtest.Account),
	} {
		answered(t, client, door+path, want)
	}
	for x, stat := range map[*task]string{
		gateway:    "http.ingress.downstream_rq_total",
		storefront: "cluster.cds_egress_shop_colour_http_8080.upstream_rq_total",
		colour:     "http.ingress.downstream_rq_total",
	} {
		if got := x.statistic(stat); got < 2 {
			t.Errorf("Envoy of %s has %s %d, want at least 2: the calls go past it", x.Family, stat, got)
		}
	}
	for x, want := range map[*running]string{
		storefront.containers["xray-daemon"]:  `"name":"shop/storefront"`,
		colour.containers["cloudwatch-agent"]: "envoy.",
	} {
		meshtest.Eventually(t, x.def.Name+" hears from Envoy", func() error {
			if !strings.Contains(x.log.String(), want) {
				return errors.New("nothing has come")
			}
			return nil
		})
	}
	var stops sync.WaitGroup
	for x, want := range map[*task]string{
		gateway:    "gateway",
		storefront: "storefront envoy xray-daemon",  // of the last two neither depends on the other
		colour:     "cloudwatch-agent colour envoy", // so are the first two
	} {
		stops.Go(func() {
			order := x.stop()
			switch x {
			case storefront:
				slices.Sort(order[1:])
			case colour:
				slices.Sort(order[:2])
			}
			if got := strings.Join(order, " "); got != want {
				t.Errorf("the containers of %s end in the order %s, want %s", x.Family, got, want)
			}
			for _, r := range x.containers {
				if code := r.cmd.ProcessState.ExitCode(); r.def.Image == agentImage && code != 0 {
					t.Errorf("the agent of %s ends with %d", x.Family, code)
				}
			}
		})
	}
	stops.Wait()
}

// answered waits until a URL is answered with a text.
func answered(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	meshtest.Eventually(t, url+" is answered", func() error {
		status, body, err := meshtest.Get(client, url)
		if err == nil && (status != http.StatusOK || body != want) {
			err = fmt.Errorf("%d %q, want %q", status, body, want)
		}
		return err
	})
}

// statistic reads one of a task's Envoy.
func (x *task) statistic(name string) int {
	x.t.Helper()
	client, admin := x.admin()
	_, text, err := meshtest.Get(client, admin+"/stats?filter=^"+strings.ReplaceAll(name, ".", `\.`)+"$")
	if err != nil {
		x.t.Fatal(err)
	}
	var n int
	if _, value, ok := strings.Cut(text, ": "); ok {
		if _, err := fmt.Sscan(value, &n); err != nil {
			x.t.Fatalf("statistic %q: %v", text, err)
		}
	}
	return n
}
