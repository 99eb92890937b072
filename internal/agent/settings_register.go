package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

// Registration is how this instance registers itself in the control plane's Cloud Map.
// The zero value registers nothing. It has no part in the bootstrap.
type Registration struct {
	// Service is the service's id or ARN, or its name if Namespace is set.
	Namespace, Service string
	ID                 string            // of the instance; "" until complete makes one
	IPv4, IPv6         netip.Addr        // where the instance is; neither until complete finds one
	Port               int               // 0: that of the virtual node's listener
	Zone               string            // "" if not known
	Attributes         map[string]string // the user's own
	Lease              time.Duration     // whole seconds
}

// Wanted reports whether there is something to register.
func (r Registration) Wanted() bool { return r.Service != "" }

// Attributes of an instance that have variables of their own.
const (
	attrIPv4  = "AWS_INSTANCE_IPV4"
	attrIPv6  = "AWS_INSTANCE_IPV6"
	attrPort  = "AWS_INSTANCE_PORT"
	attrZone  = "AVAILABILITY_ZONE"
	attrLease = "FAIRLEAD_LEASE_SECONDS"
)

// Bounds of the registry.
const (
	maxInstanceID = 64
	maxCustom     = 30 // attributes whose names do not begin with AWS_
	minLease      = 10 // seconds
	maxLease      = 3600
	defaultLease  = 30
)

const registerService = "FAIRLEAD_REGISTER_SERVICE"

// registerMore are the variables that mean nothing without a service.
var registerMore = []string{
	"FAIRLEAD_REGISTER_INSTANCE_ID", "FAIRLEAD_REGISTER_ADDRESS", "FAIRLEAD_REGISTER_PORT", "FAIRLEAD_REGISTER_ATTRIBUTES", "FAIRLEAD_REGISTER_LEASE_SECONDS",
}

// readRegistration reads what is said of the registration at an API.
func readRegistration(e *env, p Placement, api control.API) Registration {
	service := e.text(registerService, "")
	if service == "" {
		if name, v := e.first(registerMore...); v != "" {
			e.refuse("%s is set and %s is not, which says where to register; set both or neither", name, registerService)
		}
		return Registration{}
	}
	r := Registration{
		ID:         e.text("FAIRLEAD_REGISTER_INSTANCE_ID", ""),
		Port:       e.integer("FAIRLEAD_REGISTER_PORT", 0, 1, 65535),
		Zone:       e.text("FAIRLEAD_AVAILABILITY_ZONE", ""),
		Attributes: readOwnAttributes(e),
		Lease:      time.Duration(e.integer("FAIRLEAD_REGISTER_LEASE_SECONDS", defaultLease, minLease, maxLease)) * time.Second,
	}
	needAPI(e, api, registerService)
	r.Namespace, r.Service = splitService(e, service)
	if r.ID != "" && !instanceID.MatchString(r.ID) {
		e.refuse("FAIRLEAD_REGISTER_INSTANCE_ID is %q, allowed are %d letters, digits and _ / : . @ - at most", r.ID, maxInstanceID)
	}
	if r.Zone != "" && !zoneName.MatchString(r.Zone) {
		e.refuse("FAIRLEAD_AVAILABILITY_ZONE is %q, allowed is the name of a zone, for example us-east-1a", r.Zone)
	}
	r.readAddresses(e, p)
	return r
}

var (
	instanceID    = lazy.NewRegexp(`^[0-9a-zA-Z_/:.@-]{1,64}$`)
	zoneName      = lazy.NewRegexp(`^[0-9a-zA-Z-]{1,64}$`)
	serviceID     = lazy.NewRegexp(`^srv-[0-9a-z]+$`)
	serviceARN    = lazy.NewRegexp(`^arn:[a-z-]+:servicediscovery:[a-z0-9-]+:[0-9]{12}:service/srv-[0-9a-z]+$`)
	serviceNames  = lazy.NewRegexp(`^[!-~]+/[0-9a-zA-Z_.-]+$`)
	attributeName = lazy.NewRegexp(`^[!-~]{1,255}$`)
	// attributeValue is what the API allows: nothing, or text without a space at either end.
	attributeValue = lazy.NewRegexp(`^([!-~]([ !-~]*[!-~])?)?$`)
)

// splitService reads where to register: a service's id, its ARN, or NAMESPACE/SERVICE.
func splitService(e *env, v string) (namespace, service string) {
	switch {
	case serviceID.MatchString(v), serviceARN.MatchString(v):
		return "", v
	case serviceNames.MatchString(v) && !strings.HasPrefix(v, "arn:"):
		i := strings.LastIndexByte(v, '/')
		return v[:i], v[i+1:]
	}
	e.refuse("%s is %q, allowed are NAMESPACE/SERVICE, the service's id (srv-…) and its ARN", registerService, v)
	return "", ""
}

// readOwnAttributes reads the user's own attributes, NAME=VALUE,….
func readOwnAttributes(e *env) map[string]string {
	const name = "FAIRLEAD_REGISTER_ATTRIBUTES"
	text := e.text(name, "")
	if text == "" {
		return nil
	}
	out, custom := map[string]string{}, 0
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || !attributeName.MatchString(key) || !attributeValue.MatchString(value) || len(value) > 1024 {
			e.refuse("%s has %q, allowed are NAME=VALUE, with commas in between, a name of 255 and a value of 1024 printable ASCII characters at most", name, part)
		}
		if instead := notOwn[key]; instead != "" {
			e.refuse("%s has %s, %s", name, key, instead)
		}
		if _, twice := out[key]; twice {
			e.refuse("%s has %s twice", name, key)
		}
		if out[key] = value; !strings.HasPrefix(key, "AWS_") {
			custom++
		}
	}
	if custom > maxCustom {
		e.refuse("%s has %d attributes of your own, allowed are %d", name, custom, maxCustom)
	}
	return out
}

// notOwn are the attributes that cannot be given, and what to do instead.
var notOwn = map[string]string{
	attrIPv4:              "which FAIRLEAD_REGISTER_ADDRESS sets",
	attrIPv6:              "which FAIRLEAD_REGISTER_ADDRESS sets",
	attrPort:              "which FAIRLEAD_REGISTER_PORT sets",
	attrZone:              "which FAIRLEAD_AVAILABILITY_ZONE sets",
	attrLease:             "which FAIRLEAD_REGISTER_LEASE_SECONDS sets",
	"AWS_ALIAS_DNS_NAME":  "which Fairlead does not know; FAIRLEAD_REGISTER_ADDRESS says where the instance is",
	"AWS_EC2_INSTANCE_ID": "which Fairlead does not know; FAIRLEAD_REGISTER_ADDRESS says where the instance is",
	"AWS_INSTANCE_CNAME":  "which is of no use to a proxy; FAIRLEAD_REGISTER_ADDRESS says where the instance is",
}

// readAddresses reads where the instance is: what is given, or the bound address.
func (r *Registration) readAddresses(e *env, p Placement) {
	const name = "FAIRLEAD_REGISTER_ADDRESS"
	text := e.text(name, "")
	if text == "" {
		if p.Bind.IsValid() {
			r.addAddress(p.Bind)
		}
		return
	}
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || !r.addAddress(a.Unmap()) {
			e.refuse("%s is %q, allowed is an IPv4 address, an IPv6 address, or one of each with a comma in between", name, text)
		}
	}
}

// addAddress says where the instance is, and whether nothing was said of that family.
func (r *Registration) addAddress(a netip.Addr) (first bool) {
	if a.Is4() {
		first, r.IPv4 = !r.IPv4.IsValid(), a
	} else {
		first, r.IPv6 = !r.IPv6.IsValid(), a
	}
	return first
}

// complete fills in what the host says: its address, and the instance's id. The error is
// one line.
func (r Registration) complete(resource Resource, p Placement) (Registration, error) {
	if !r.Wanted() {
		return r, nil
	}
	if !r.IPv4.IsValid() && !r.IPv6.IsValid() {
		all, err := net.InterfaceAddrs()
		if err != nil {
			return r, fmt.Errorf("looking for this host's address (FAIRLEAD_REGISTER_ADDRESS sets it): %w", err)
		}
		a, err := onlyAddress(all, "FAIRLEAD_REGISTER_ADDRESS")
		if err != nil {
			return r, err
		}
		r.addAddress(a)
	}
	if r.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return r, fmt.Errorf("asking for this host's name (FAIRLEAD_REGISTER_INSTANCE_ID stands in for it): %w", err)
		}
		r.ID = makeInstanceID(resource, host, p)
	}
	return r, nil
}

// onlyAddress returns the one address by which others reach this host, if it is plain
// which that is: its only IPv4 address, or with none its only IPv6 address. The error names
// the variable that says so else.
func onlyAddress(all []net.Addr, variable string) (netip.Addr, error) {
	var four, six []netip.Addr
	for _, one := range all {
		prefix, err := netip.ParsePrefix(one.String())
		switch a := prefix.Addr().Unmap(); {
		case err != nil || !a.IsGlobalUnicast():
		case a.Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	for _, found := range [][]netip.Addr{four, six} {
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return netip.Addr{}, fmt.Errorf("%s is not set, and this host has several addresses (%s); set it to the one where others reach Envoy", variable, join(found))
		}
	}
	return netip.Addr{}, fmt.Errorf("%s is not set, and this host has no address but loopback and link-local ones; set it to the one where others reach Envoy", variable)
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// makeInstanceID names an instance NODE.HOST, with the address behind it where several
// Envoys may share the host. It is the same whenever the agent starts there again.
func makeInstanceID(resource Resource, host string, p Placement) string {
	_, _, node := resource.parts()
	id := node + "." + host
	if p.Bound() {
		id += "." + p.Bind.String()
	}
	sum := sha256.Sum256([]byte(id))
	plain := strings.Map(func(r rune) rune {
		if r < 128 && instanceID.MatchString(string(r)) {
			return r
		}
		return '-'
	}, id)
	if plain == id && len(id) <= maxInstanceID {
		return id
	}
	const digits = 12
	return plain[:min(len(plain), maxInstanceID-digits-1)] + "-" + hex.EncodeToString(sum[:])[:digits]
}

// all returns all attributes that the instance is registered with.
func (r Registration) all() map[string]string {
	out := map[string]string{attrLease: strconv.Itoa(int(r.Lease / time.Second))}
	maps.Copy(out, r.Attributes)
	for name, value := range map[string]netip.Addr{attrIPv4: r.IPv4, attrIPv6: r.IPv6} {
		if value.IsValid() {
			out[name] = value.String()
		}
	}
	if r.Port != 0 {
		out[attrPort] = strconv.Itoa(r.Port)
	}
	if r.Zone != "" {
		out[attrZone] = r.Zone
	}
	return out
}

// address is where the instance is, for the log.
func (r Registration) address() string {
	return join(slices.DeleteFunc([]netip.Addr{r.IPv4, r.IPv6}, func(a netip.Addr) bool { return !a.IsValid() }))
}

// title names the service as the user did.
func (r Registration) title() string {
	if r.Namespace == "" {
		return r.Service
	}
	return r.Namespace + "/" + r.Service
}
