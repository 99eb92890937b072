package registry

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// The bounds of an instance's attributes that the model does not have.
const (
	maxCustom = 30   // attributes whose names do not begin with AWS_
	maxSize   = 5000 // characters of all names and values
	minLease  = 10   // seconds
	maxLease  = 3600
)

// checkInstance holds the rules for the attributes of an instance of a service. All that
// is wrong is said at once.
func checkInstance(attributes map[string]string, svc *serviceValue) error {
	var bad mesh.Violations
	fail := func(name, message string) {
		bad = append(bad, mesh.Violation{Path: "Attributes." + name, Message: message})
	}
	size, custom := 0, 0
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		size += len(name) + len(value)
		if !strings.HasPrefix(name, "AWS_") && name != attrLease {
			custom++
		}
		if message := checkAttribute(name, value, svc); message != "" {
			fail(name, message)
		}
	}
	for _, missing := range required(attributes, svc.DNS) {
		fail(missing, "is required by the DNS records of service "+svc.Name)
	}
	if custom > maxCustom {
		bad = append(bad, mesh.Violation{Path: "Attributes", Message: "must have at most " + strconv.Itoa(maxCustom) + " custom attributes, " + strconv.Itoa(custom) + " were given"})
	}
	if size > maxSize {
		bad = append(bad, mesh.Violation{Path: "Attributes", Message: "must have at most " + strconv.Itoa(maxSize) + " characters in all names and values, " + strconv.Itoa(size) + " were given"})
	}
	if len(bad) > 0 {
		return mesh.Errorf(ErrInvalidInput, "%s", bad.Error())
	}
	return nil
}

// checkAttribute returns what is wrong with an attribute, "" if nothing is.
func checkAttribute(name, value string, svc *serviceValue) string {
	given := ", " + strconv.Quote(value) + " was given"
	switch name {
	case attrIPv4:
		if ip, err := netip.ParseAddr(value); err != nil || !ip.Is4() {
			return "must be an IPv4 address" + given
		}
	case attrIPv6:
		if ip, err := netip.ParseAddr(value); err != nil || !ip.Is6() || ip.Is4In6() || ip.Zone() != "" {
			return "must be an IPv6 address" + given
		}
	case attrPort:
		if n, ok := number(value); !ok || n < 1 || n > 65535 {
			return "must be a port from 1 to 65535" + given
		}
	case attrLease:
		if n, ok := number(value); !ok || n < minLease || n > maxLease {
			return "must be a number of seconds from 10 to 3600" + given
		}
	case attrInit:
		if svc.Custom == nil {
			return "is for services with HealthCheckCustomConfig, which service " + svc.Name + " has not"
		}
		if value != healthy && value != unhealthy {
			return "must be HEALTHY or UNHEALTHY" + given
		}
	case attrAlias:
		return "stands for a Route 53 alias, which there is not here: register " + attrIPv4 + " or " + attrIPv6
	case attrEC2:
		return "asks for the address of an EC2 instance, which is not known here: register " + attrIPv4 + " or " + attrIPv6
	}
	return ""
}

// number reads a whole number as it is written: without a sign or zeros in front.
func number(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && strconv.Itoa(n) == s
}

// required returns the attributes that the DNS records of a service need and that are
// missing.
func required(attributes map[string]string, dns *DnsConfig) []string {
	if dns == nil {
		return nil
	}
	var missing []string
	need := func(name string) {
		if attributes[name] == "" {
			missing = append(missing, name)
		}
	}
	for _, r := range dns.DnsRecords {
		switch r.Type {
		case "A":
			need(attrIPv4)
		case "AAAA":
			need(attrIPv6)
		case "CNAME":
			need(attrCNAME)
		case "SRV":
			need(attrPort)
			if attributes[attrIPv6] == "" {
				need(attrIPv4)
			}
		}
	}
	return missing
}
