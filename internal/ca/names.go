package ca

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// DefaultTrustDomain is the trust domain of a server that was not told another.
const DefaultTrustDomain = "fairlead.internal"

// What SPIFFE allows in the name of a trust domain.
var trustDomainPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,254}$`)

// CheckTrustDomain says what is wrong with the name of a trust domain.
func CheckTrustDomain(name string) error {
	if trustDomainPattern.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%q is not the name of a trust domain: 1 to 255 lower-case letters, digits, dots, hyphens and underscores, for example %s", clip(name, 60), DefaultTrustDomain)
}

// spiffeID returns the name of a virtual node or gateway of an account. A mesh's, a node's
// and a gateway's name hold nothing that SPIFFE does not allow in a path.
func spiffeID(trustDomain, owner string, id mesh.ID) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/" + owner + "/" + id.Mesh.Name + "/" + id.Key.String()}
}

// names are what a certificate is for.
type names struct {
	uri *url.URL
	dns []string
	ips []net.IP
}

// hostPattern is what a name must look like to stand in a certificate.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?)*$`)

// add takes a name that the node is found by: an address or a host's.
func (n *names) add(host string) {
	host = strings.TrimSuffix(host, ".")
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		n.ips = append(n.ips, net.IP(a.Unmap().WithZone("").AsSlice()))
	} else if len(host) <= 253 && hostPattern.MatchString(host) {
		n.dns = append(n.dns, host)
	}
}

// foundBy returns the name by which a virtual node is found, "" if there is none.
func foundBy(o *mesh.Object) (string, error) {
	var spec mesh.VirtualNodeSpec
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		return "", fmt.Errorf("reading %s: %w", o.ID.Key, err)
	}
	d := spec.ServiceDiscovery
	switch {
	case d != nil && d.Dns != nil:
		return d.Dns.Hostname, nil
	case d != nil && d.AwsCloudMap != nil:
		return d.AwsCloudMap.ServiceName + "." + d.AwsCloudMap.NamespaceName, nil
	}
	return "", nil
}

// namesOf returns the names of a virtual node or gateway. In a mesh that is shared a node
// of another account than the mesh's does not get the name of a node that is not its
// account's: whoever may write a node would else be any server of the mesh.
func (s *Service) namesOf(ctx context.Context, o *mesh.Object) (names, error) {
	n := names{uri: spiffeID(s.trustDomain, o.ResourceOwner, o.ID)}
	if o.ID.Kind != mesh.KindVirtualNode {
		return n, nil
	}
	host, err := foundBy(o)
	if err != nil || host == "" {
		return n, err
	}
	if o.ResourceOwner != o.ID.Mesh.Account {
		taken, err := s.takenByOthers(ctx, o, host)
		if err != nil || taken {
			return n, err
		}
	}
	n.add(host)
	return n, nil
}

// takenByOthers reports whether a node of another account is found by a name.
func (s *Service) takenByOthers(ctx context.Context, o *mesh.Object, host string) (bool, error) {
	all, _, err := s.store.List(ctx, self, store.Query{Mesh: o.ID.Mesh, Kind: mesh.KindVirtualNode})
	if err != nil {
		return false, fmt.Errorf("looking for nodes of the same name: %w", err)
	}
	for _, other := range all {
		if other.ResourceOwner == o.ResourceOwner {
			continue
		}
		its, err := foundBy(other)
		if err != nil || strings.EqualFold(strings.TrimSuffix(its, "."), strings.TrimSuffix(host, ".")) {
			return true, nil // what cannot be read may be it
		}
	}
	return false, nil
}
