package agent

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
)

// registers is the smallest environment that registers.
func registers() vars {
	return base().with(vars{"FAIRLEAD_REGISTER_SERVICE": "shop.local/cart", "FAIRLEAD_API_ENDPOINT": "https://fairlead.example.com:9080", "FAIRLEAD_BIND_ADDRESS": "10.0.0.3"})
}

func TestReadRegistration(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:servicediscovery:us-east-1:000000000001:service/srv-abc0"
	cases := map[string]struct {
		set  vars
		want func(*Registration)
	}{
		"defaults":      {vars{}, func(*Registration) {}},
		"id":            {vars{"FAIRLEAD_REGISTER_SERVICE": "srv-abc0"}, func(r *Registration) { r.Namespace, r.Service = "", "srv-abc0" }},
		"ARN":           {vars{"FAIRLEAD_REGISTER_SERVICE": arn}, func(r *Registration) { r.Namespace, r.Service = "", arn }},
		"odd namespace": {vars{"FAIRLEAD_REGISTER_SERVICE": "a/b/c"}, func(r *Registration) { r.Namespace, r.Service = "a/b", "c" }},
		"instance":      {vars{"FAIRLEAD_REGISTER_INSTANCE_ID": "i@1"}, func(r *Registration) { r.ID = "i@1" }},
		"address":       {vars{"FAIRLEAD_REGISTER_ADDRESS": "10.0.0.4"}, func(r *Registration) { r.IPv4 = netip.MustParseAddr("10.0.0.4") }},
		"IPv6 address":  {vars{"FAIRLEAD_REGISTER_ADDRESS": "fd00::1"}, func(r *Registration) { r.IPv4, r.IPv6 = netip.Addr{}, netip.MustParseAddr("fd00::1") }},
		"both addresses": {vars{"FAIRLEAD_REGISTER_ADDRESS": "fd00::1, 10.0.0.4"}, func(r *Registration) {
			r.IPv4, r.IPv6 = netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::1")
		}},
		"no address":      {vars{"FAIRLEAD_BIND_ADDRESS": ""}, func(r *Registration) { r.IPv4 = netip.Addr{} }},
		"port":            {vars{"FAIRLEAD_REGISTER_PORT": "8080"}, func(r *Registration) { r.Port = 8080 }},
		"zone":            {vars{"FAIRLEAD_AVAILABILITY_ZONE": "us-east-1a"}, func(r *Registration) { r.Zone = "us-east-1a" }},
		"lease":           {vars{"FAIRLEAD_REGISTER_LEASE_SECONDS": "3600"}, func(r *Registration) { r.Lease = time.Hour }},
		"attributes":      {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "version=1, a=b=c,empty="}, func(r *Registration) { r.Attributes = map[string]string{"version": "1", "a": "b=c", "empty": ""} }},
		"health at first": {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "AWS_INIT_HEALTH_STATUS=UNHEALTHY"}, func(r *Registration) { r.Attributes = map[string]string{"AWS_INIT_HEALTH_STATUS": "UNHEALTHY"} }},
		"nothing":         {vars{"FAIRLEAD_REGISTER_SERVICE": ""}, func(r *Registration) { *r = Registration{} }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := Registration{
				Namespace: "shop.local", Service: "cart", IPv4: netip.MustParseAddr("10.0.0.3"), Lease: 30 * time.Second,
			}
			c.want(&want)
			got, _, err := ReadSettings(registers().with(c.set).lookup)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Registration, compareAddr); diff != "" {
				t.Errorf("registration differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadAPI(t *testing.T) {
	t.Parallel()
	const there = "https://fairlead.example.com:9080"
	for name, c := range map[string]struct {
		set  vars
		want control.API
	}{
		"defaults":        {vars{}, control.API{Endpoint: there}},
		"nowhere":         {vars{"FAIRLEAD_API_ENDPOINT": "", "FAIRLEAD_REGISTER_SERVICE": ""}, control.API{}},
		"roots":           {vars{"FAIRLEAD_API_CA_FILE": "/ca.pem", "FAIRLEAD_XDS_CA_FILE": "/other.pem"}, control.API{Endpoint: there, CAFile: "/ca.pem"}},
		"the same roots":  {vars{"FAIRLEAD_XDS_CA_FILE": "/ca.pem"}, control.API{Endpoint: there, CAFile: "/ca.pem"}},
		"without a port":  {vars{"FAIRLEAD_API_ENDPOINT": "https://fairlead.example.com/"}, control.API{Endpoint: "https://fairlead.example.com"}},
		"plaintext here":  {vars{"FAIRLEAD_API_ENDPOINT": "http://[::1]:1"}, control.API{Endpoint: "http://[::1]:1"}},
		"plaintext there": {vars{"FAIRLEAD_API_ENDPOINT": "http://f:1", "FAIRLEAD_XDS_PLAINTEXT": "insecure"}, control.API{Endpoint: "http://f:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := ReadSettings(registers().with(c.set).lookup)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.API); diff != "" {
				t.Errorf("the API differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRegistrationRefuses(t *testing.T) {
	t.Parallel()
	many := func(n int, form string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(form, i))
		}
		return strings.Join(all, ",")
	}
	cases := map[string]struct {
		set  vars
		says []string // parts of the message
	}{
		"no namespace":       {vars{"FAIRLEAD_REGISTER_SERVICE": "cart"}, []string{`FAIRLEAD_REGISTER_SERVICE is "cart"`, "NAMESPACE/SERVICE"}},
		"another ARN":        {vars{"FAIRLEAD_REGISTER_SERVICE": "arn:aws:servicediscovery:us-east-1:000000000001:namespace/ns-a"}, []string{"FAIRLEAD_REGISTER_SERVICE", "its ARN"}},
		"no service":         {vars{"FAIRLEAD_REGISTER_SERVICE": "", "FAIRLEAD_REGISTER_PORT": "1"}, []string{"FAIRLEAD_REGISTER_PORT is set", "FAIRLEAD_REGISTER_SERVICE is not"}},
		"instance":           {vars{"FAIRLEAD_REGISTER_INSTANCE_ID": "a b"}, []string{`FAIRLEAD_REGISTER_INSTANCE_ID is "a b"`, "64"}},
		"long instance":      {vars{"FAIRLEAD_REGISTER_INSTANCE_ID": strings.Repeat("i", 65)}, []string{"FAIRLEAD_REGISTER_INSTANCE_ID", "64"}},
		"address":            {vars{"FAIRLEAD_REGISTER_ADDRESS": "host"}, []string{`FAIRLEAD_REGISTER_ADDRESS is "host"`, "IPv4"}},
		"any address":        {vars{"FAIRLEAD_REGISTER_ADDRESS": "0.0.0.0"}, []string{"FAIRLEAD_REGISTER_ADDRESS"}},
		"two of a family":    {vars{"FAIRLEAD_REGISTER_ADDRESS": "10.0.0.1,10.0.0.2"}, []string{"FAIRLEAD_REGISTER_ADDRESS", "one of each"}},
		"port":               {vars{"FAIRLEAD_REGISTER_PORT": "0"}, []string{`FAIRLEAD_REGISTER_PORT is "0"`, "1 to 65535"}},
		"zone":               {vars{"FAIRLEAD_AVAILABILITY_ZONE": "a b"}, []string{`FAIRLEAD_AVAILABILITY_ZONE is "a b"`}},
		"short lease":        {vars{"FAIRLEAD_REGISTER_LEASE_SECONDS": "9"}, []string{"FAIRLEAD_REGISTER_LEASE_SECONDS", "10 to 3600"}},
		"long lease":         {vars{"FAIRLEAD_REGISTER_LEASE_SECONDS": "3601"}, []string{"FAIRLEAD_REGISTER_LEASE_SECONDS", "10 to 3600"}},
		"attribute":          {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "a=1,b"}, []string{`FAIRLEAD_REGISTER_ATTRIBUTES has "b"`, "NAME=VALUE"}},
		"long value":         {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "a=" + strings.Repeat("x", 1025)}, []string{"FAIRLEAD_REGISTER_ATTRIBUTES", "1024"}},
		"attribute twice":    {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "a=1,a=2"}, []string{"a twice"}},
		"another variable's": {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "AWS_INSTANCE_PORT=1"}, []string{"AWS_INSTANCE_PORT", "FAIRLEAD_REGISTER_PORT"}},
		"no use":             {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": "AWS_EC2_INSTANCE_ID=i-1"}, []string{"AWS_EC2_INSTANCE_ID", "FAIRLEAD_REGISTER_ADDRESS"}},
		"many attributes":    {vars{"FAIRLEAD_REGISTER_ATTRIBUTES": many(31, "a%d=1")}, []string{"31 attributes", "allowed are 30"}},
		"no API":             {vars{"FAIRLEAD_API_ENDPOINT": ""}, []string{"FAIRLEAD_API_ENDPOINT is not set", "https://HOST:PORT"}},
		"API without scheme": {vars{"FAIRLEAD_API_ENDPOINT": "fairlead:9080"}, []string{"FAIRLEAD_API_ENDPOINT", "https://HOST:PORT"}},
		"API with a path":    {vars{"FAIRLEAD_API_ENDPOINT": "https://f:1/x"}, []string{"FAIRLEAD_API_ENDPOINT"}},
		"API with a secret":  {vars{"FAIRLEAD_API_ENDPOINT": "https://u:secret-nobody-uses@f:1"}, []string{"FAIRLEAD_API_ENDPOINT"}},
		"API far away":       {vars{"FAIRLEAD_API_ENDPOINT": "http://fairlead.example.com:9080"}, []string{"FAIRLEAD_API_ENDPOINT", "loopback", "insecure"}},
		"own bootstrap":      {vars{"ENVOY_CONFIG_FILE": "/b.yaml"}, []string{"FAIRLEAD_REGISTER_SERVICE", "ENVOY_CONFIG_FILE"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ReadSettings(registers().with(c.set).lookup)
			checkRefusal(t, err, c.says...)
		})
	}
}

// Registration is not Envoy's affair: the bootstrap is the same with and without.
func TestRegistrationLeavesTheBootstrap(t *testing.T) {
	t.Parallel()
	text := func(set vars) []byte {
		s, _, err := ReadSettings(registers().with(set).lookup)
		if err != nil {
			t.Fatal(err)
		}
		out, err := BootstrapText(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	with, without := text(vars{"FAIRLEAD_AVAILABILITY_ZONE": "us-east-1a"}), text(vars{"FAIRLEAD_REGISTER_SERVICE": "", "FAIRLEAD_API_ENDPOINT": ""})
	if !bytes.Equal(with, without) {
		t.Errorf("the bootstrap differs:\n%s\n%s", with, without)
	}
}

func TestRegistrationAttributes(t *testing.T) {
	t.Parallel()
	r := Registration{
		IPv4: netip.MustParseAddr("10.0.0.3"), IPv6: netip.MustParseAddr("fd00::1"), Port: 8080, Zone: "us-east-1a", Lease: time.Minute,
		Attributes: map[string]string{"version": "1"},
	}
	want := map[string]string{
		"AWS_INSTANCE_IPV4": "10.0.0.3", "AWS_INSTANCE_IPV6": "fd00::1", "AWS_INSTANCE_PORT": "8080", "AVAILABILITY_ZONE": "us-east-1a",
		"FAIRLEAD_LEASE_SECONDS": "60", "version": "1",
	}
	if diff := cmp.Diff(want, r.all()); diff != "" {
		t.Errorf("attributes differ (-want +got):\n%s", diff)
	}
	want = map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.3", "FAIRLEAD_LEASE_SECONDS": "10"}
	if diff := cmp.Diff(want, Registration{IPv4: r.IPv4, Lease: 10 * time.Second}.all()); diff != "" {
		t.Errorf("attributes differ (-want +got):\n%s", diff)
	}
}

func TestMakeInstanceID(t *testing.T) {
	t.Parallel()
	cart := Resource{ARN: "mesh/shop/virtualNode/cart"}
	bound := Placement{Bind: netip.MustParseAddr("10.0.0.3")}
	long := strings.Repeat("h", 60)
	ids := map[string]string{
		makeInstanceID(cart, "host-1", Placement{}):                                       "cart.host-1",
		makeInstanceID(cart, "host-1", bound):                                             "cart.host-1.10.0.0.3",
		makeInstanceID(cart, "host-1", Placement{Bind: netip.MustParseAddr("fd00::1")}):   "cart.host-1.fd00::1",
		makeInstanceID(cart, "hôst 1", Placement{}):                                       "cart.h-st-1-",
		makeInstanceID(cart, "h st 1", Placement{}):                                       "cart.h-st-1-",
		makeInstanceID(cart, long, Placement{}):                                           "cart." + long[:46] + "-",
		makeInstanceID(cart, long+"2", Placement{}):                                       "cart." + long[:46] + "-",
		makeInstanceID(Resource{ARN: "mesh/shop/virtualNode/c"}, "art.host", Placement{}): "c.art.host",
	}
	if len(ids) != 8 {
		t.Errorf("some ids are the same: %v", ids)
	}
	for got, want := range ids {
		if !instanceID.MatchString(got) || got != want && (!strings.HasSuffix(want, "-") || !strings.HasPrefix(got, want) || len(got) != len(want)+12) {
			t.Errorf("id %q, want %q", got, want)
		}
	}
}

func TestHostAddress(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		has  []string
		want string // or part of the error
	}{
		"one":               {[]string{"127.0.0.1/8", "10.0.0.3/24", "::1/128", "fe80::1/64", "fd00::3/64"}, "10.0.0.3"},
		"link-local beside": {[]string{"10.0.0.3/24", "169.254.172.2/22"}, "10.0.0.3"},
		"IPv6 only":         {[]string{"127.0.0.1/8", "fd00::3/64"}, "fd00::3"},
		"several":           {[]string{"10.0.0.3/24", "172.17.0.1/16"}, "10.0.0.3, 172.17.0.1"},
		"several IPv6":      {[]string{"fd00::3/64", "fd00::4/64"}, "fd00::3, fd00::4"},
		"none":              {[]string{"127.0.0.1/8"}, "no address but"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []net.Addr
			for _, one := range c.has {
				ip, network, err := net.ParseCIDR(one)
				if err != nil {
					t.Fatal(err)
				}
				network.IP = ip
				all = append(all, network)
			}
			got, err := onlyAddress(all, "FAIRLEAD_REGISTER_ADDRESS")
			if err != nil {
				checkRefusal(t, err, c.want, "FAIRLEAD_REGISTER_ADDRESS")
			} else if got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The key is read anew each time, from the file or the environment.
func TestReadCredentials(t *testing.T) {
	t.Parallel()
	key, err := Credentials{}.read([]string{"AWS_ACCESS_KEY_ID=old", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t", "AWS_ACCESS_KEY_ID=new"})
	if err != nil || key != (aws.Credentials{AccessKeyID: "new", SecretAccessKey: "s", SessionToken: "t"}) {
		t.Errorf("read %v %v", key.AccessKeyID, err)
	}
	_, err = Credentials{File: "testdata/credentials", Profile: "half"}.read(nil)
	checkRefusal(t, err, "half")
	key, err = Credentials{File: "testdata/credentials", Profile: "shop"}.read(nil)
	if err != nil || key.AccessKeyID == "" || key.SecretAccessKey == "" {
		t.Errorf("read %v %v", key.AccessKeyID, err)
	}
}
