package cloudmap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const account = "000000000001"

var cart = mesh.InstancesKey{Account: account, Region: "us-east-1", Namespace: "shop.local", Service: "cart"}

// cloud is a server that speaks Cloud Map's wire protocol (awsJson1.1), and what STS
// needs for roles. Tests set what it answers.
type cloud struct {
	mu        sync.Mutex
	instances map[string]map[string]string // attributes by id
	unhealthy map[string]bool
	revision  int64
	refuse    string // a code that every call is refused with
	refuseOne map[string]string
	broken    string // an operation that is answered with 500 and a page
	hang      string // a service that is never answered for
	twice     bool   // each instance is told twice
	calls     map[string]int
	keys      map[string]bool // that signed
	requests  []map[string]any
}

func newCloud(t *testing.T) (*cloud, string) {
	t.Helper()
	c := &cloud{
		instances: map[string]map[string]string{}, unhealthy: map[string]bool{}, refuseOne: map[string]string{},
		revision: 1, calls: map[string]int{}, keys: map[string]bool{},
	}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return c, srv.URL
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	hangs := c.hang != "" && strings.Contains(string(body), `"`+c.hang+`"`)
	c.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	c.keys[key] = true
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if operation == "" {
		c.assumeRole(w, string(body))
		return
	}
	c.calls[operation]++
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.requests = append(c.requests, in)
	code := c.refuse
	if code == "" {
		code = c.refuseOne[operation]
	}
	if operation == c.broken {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "<!doctype html><title>500 Internal Server Error</title>")
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if code != "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":%q,"message":"no"}`, code)
		return
	}
	out := map[string]any{"InstancesRevision": c.revision}
	if operation == "DiscoverInstances" {
		list := []any{}
		for id, attributes := range c.instances {
			health := "HEALTHY"
			if c.unhealthy[id] {
				health = "UNHEALTHY"
			}
			list = append(list, map[string]any{"InstanceId": id, "Attributes": attributes, "HealthStatus": health})
			if c.twice {
				list = append(list, list[len(list)-1])
			}
		}
		out["Instances"] = list
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (c *cloud) assumeRole(w http.ResponseWriter, body string) {
	form, _ := url.ParseQuery(body)
	c.calls[form.Get("Action")+" "+form.Get("RoleArn")+" "+form.Get("ExternalId")]++
	fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
		`<AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration>`+
		`</Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

func (c *cloud) set(change func(*cloud)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *cloud) count(operation string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[operation]
}

// sink keeps what is imported.
type sink struct {
	mu      sync.Mutex
	known   map[mesh.InstancesKey][]mesh.Instance
	imports int
	forgets int
	wanted  []mesh.InstancesKey
	away    error // of importAll
}

func (s *sink) importAll(_ context.Context, k mesh.InstancesKey, all []mesh.Instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return s.away
	}
	s.known[k] = all
	s.imports++
	return nil
}

func (s *sink) forget(_ context.Context, k mesh.InstancesKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, k)
	s.forgets++
	return nil
}

func (s *sink) find(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, ok := s.known[k]
	return all, ok
}

func (s *sink) of(k mesh.InstancesKey) []mesh.Instance {
	all, _ := s.find(k)
	return all
}

// services returns how many services were imported.
func (s *sink) services() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}

func newSink(wanted ...mesh.InstancesKey) *sink {
	return &sink{known: map[mesh.InstancesKey][]mesh.Instance{}, wanted: wanted}
}

// record keeps what is logged.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(b))
	return len(b), nil
}

// having returns the lines that have a text.
func (r *record) having(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.lines), func(l string) bool { return !strings.Contains(l, text) })
}

func (s *sink) ids(k mesh.InstancesKey) []string {
	ids := []string{}
	for _, i := range s.of(k) {
		id := i.ID
		if i.Unhealthy {
			id += "!"
		}
		ids = append(ids, id)
	}
	return ids
}

// start runs a poller until the test ends, and returns what it logs.
func start(t *testing.T, endpoint string, s *sink, sources ...Source) *record {
	t.Helper()
	return startWith(t, Config{Sources: sources, Endpoint: endpoint}, s)
}

func startWith(t *testing.T, cfg Config, s *sink) *record {
	t.Helper()
	if len(cfg.Sources) == 0 {
		cfg.Sources = []Source{{Account: account}}
	}
	logged := &record{}
	cfg.Interval = 10 * time.Millisecond
	cfg.Rate = cmp.Or(cfg.Rate, 10_000)
	cfg.Wanted = func() []mesh.InstancesKey { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.wanted) }
	cfg.Known, cfg.Import, cfg.Forget = s.find, s.importAll, s.forget
	cfg.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), logged), nil))
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return logged
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func credentials(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "OWNKEY")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CA_BUNDLE", "")
}

func TestInstancesComeAndGo(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["b"] = map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.2", "AWS_INSTANCE_PORT": "8080", "AVAILABILITY_ZONE": "a", "colour": "blue"}
	c.instances["a"] = map[string]string{"AWS_INSTANCE_IPV6": "::2", "AWS_INSTANCE_PORT": "no port"}
	s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{}, wanted: []mesh.InstancesKey{cart, {Account: "000000000009", Service: "other"}}}
	start(t, endpoint, s)
	eventually(t, "two instances", func() bool { return len(s.of(cart)) == 2 })
	want := []mesh.Instance{
		{ID: "a", IPv6: "::2", Attributes: map[string]string{"AWS_INSTANCE_IPV6": "::2", "AWS_INSTANCE_PORT": "no port"}},
		{ID: "b", IPv4: "10.0.0.2", Port: 8080, Zone: "a", Attributes: c.instances["b"]},
	}
	if d := gocmp.Diff(want, s.of(cart)); d != "" {
		t.Error(d)
	}
	c.set(func(c *cloud) { delete(c.instances, "a"); c.revision++ })
	eventually(t, "one instance", func() bool { return len(s.of(cart)) == 1 })
	if s.services() != 1 {
		t.Errorf("services without a source were imported: %v", s.known)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, in := range c.requests {
		if in["NamespaceName"] != "shop.local" || in["ServiceName"] != "cart" {
			t.Errorf("asked for %v", in)
		}
	}
}

// While nothing changes only the revision is asked for, but now and then all: a change
// of an instance's health does not change the revision.
func TestRevisionsAreAskedFirst(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.2"}
	s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{}, wanted: []mesh.InstancesKey{cart}}
	start(t, endpoint, s)
	eventually(t, "a healthy instance", func() bool { return slices.Equal(s.ids(cart), []string{"a"}) })
	c.set(func(c *cloud) { c.unhealthy["a"] = true })
	eventually(t, "an unhealthy instance", func() bool { return slices.Equal(s.ids(cart), []string{"a!"}) })
	eventually(t, "many polls", func() bool { return c.count("DiscoverInstances") >= 10 })
	looks, whole := c.count("DiscoverInstancesRevision"), c.count("DiscoverInstances")
	if looks < (whole-2)*lookAgain {
		t.Errorf("the revision was asked for %d times, all instances %d times: want %d to one", looks, whole, lookAgain)
	}
	// Where revisions are not told, all are asked for each time.
	c.set(func(c *cloud) { c.refuseOne["DiscoverInstancesRevision"] = "AccessDeniedException" })
	eventually(t, "a refusal", func() bool { return c.count("DiscoverInstancesRevision") > looks })
	c.set(func(c *cloud) { c.unhealthy["a"] = false })
	eventually(t, "a healthy instance", func() bool { return slices.Equal(s.ids(cart), []string{"a"}) })
	looks = c.count("DiscoverInstancesRevision")
	whole = c.count("DiscoverInstances")
	eventually(t, "more polls", func() bool { return c.count("DiscoverInstances") > whole+5 })
	if n := c.count("DiscoverInstancesRevision"); n > looks+1 {
		t.Errorf("the revision was asked for %d times more", n-looks)
	}
}

func TestTheLastAnswerIsKept(t *testing.T) {
	credentials(t)
	for _, code := range []string{"RequestLimitExceeded", "InternalFailure", "ThrottlingException"} {
		c, endpoint := newCloud(t)
		c.instances["a"] = map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.2"}
		s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{}, wanted: []mesh.InstancesKey{cart}}
		start(t, endpoint, s)
		eventually(t, "an instance", func() bool { return len(s.of(cart)) == 1 })
		c.set(func(c *cloud) { c.refuse, c.instances, c.calls = code, nil, map[string]int{} })
		eventually(t, "two failures", func() bool { return c.count("DiscoverInstances")+c.count("DiscoverInstancesRevision") >= 2 })
		if ids := s.ids(cart); !slices.Equal(ids, []string{"a"}) {
			t.Errorf("%s: the instances are %v", code, ids)
		}
		c.set(func(c *cloud) {
			c.refuse, c.instances, c.revision = "", map[string]map[string]string{"b": {"AWS_INSTANCE_IPV4": "10.0.0.3"}}, 9
		})
		eventually(t, "the new instance", func() bool { return slices.Equal(s.ids(cart), []string{"b"}) })
	}
}

// An answer without instances is believed when it comes twice, also from a process that
// was only just started.
func TestAnEmptyAnswerIsBelievedTwice(t *testing.T) {
	credentials(t)
	for name, refuse := range map[string]string{"no instances": "", "no service": "ServiceNotFound", "no namespace": "NamespaceNotFound"} {
		c, endpoint := newCloud(t)
		c.refuseOne["DiscoverInstances"] = refuse
		s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{cart: {{ID: "old"}}}, wanted: []mesh.InstancesKey{cart}}
		start(t, endpoint, s)
		eventually(t, name, func() bool { return len(s.of(cart)) == 0 })
		if n := c.count("DiscoverInstances"); n < 2 {
			t.Errorf("%s: believed after %d answers", name, n)
		}
	}
	// One empty answer between two others leaves everything as it is.
	c, endpoint := newCloud(t)
	s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{cart: {{ID: "a"}}}}
	p, err := New(Config{
		Sources: []Source{{Account: account}}, Endpoint: endpoint, Known: s.find, Import: s.importAll, Forget: s.forget, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	one := &service{key: cart}
	p.poll(t.Context(), p.sources[account], one)
	if s.imports != 0 {
		t.Error("one empty answer was believed")
	}
	c.set(func(c *cloud) { c.instances["a"] = map[string]string{} })
	p.poll(t.Context(), p.sources[account], one)
	c.set(func(c *cloud) { clear(c.instances); c.revision++ })
	p.poll(t.Context(), p.sources[account], one)
	if got := s.ids(cart); s.imports != 0 || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%d imports, the instances are %v", s.imports, got)
	}
}

func TestSourcesByRole(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", endpoint)
	c.instances["a"] = map[string]string{}
	second := cart
	second.Account = "000000000002"
	s := &sink{known: map[mesh.InstancesKey][]mesh.Instance{}, wanted: []mesh.InstancesKey{cart, second}}
	start(t, endpoint, s, Source{Account: account}, Source{Account: second.Account, RoleARN: "arn:aws:iam::111122223333:role/fairlead", ExternalID: "me"})
	eventually(t, "both accounts", func() bool { return len(s.of(cart)) == 1 && len(s.of(second)) == 1 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keys["OWNKEY"] || !c.keys["ROLEKEY"] || c.calls["AssumeRole arn:aws:iam::111122223333:role/fairlead me"] != 1 {
		t.Errorf("signed by %v, called %v", c.keys, c.calls)
	}
}

func TestSourcesAreChecked(t *testing.T) {
	t.Parallel()
	for want, sources := range map[string][]Source{
		`account "1" of a Cloud Map is not allowed: twelve digits`: {{Account: "1"}},
		`account 000000000001 has two Cloud Maps, allowed is one`:  {{Account: account}, {Account: account}},
	} {
		if _, err := New(Config{Sources: sources, Logger: slog.New(slog.DiscardHandler)}); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %s", sources, err, want)
		}
	}
}
