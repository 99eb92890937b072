package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// A fact is what there is to know of one content of a resource. Streams that were sent
// the same bytes share it, so each content is read once.
type fact struct {
	name    string
	version string // "" in state-of-the-world
	hash    uint64 // of the Any
	// refs are the names that a proxy asks for because of it: endpoints of a cluster,
	// route configurations of a listener, virtual hosts of a route configuration.
	refs []string
	// marks are the numbers of the changes that are in it, in ascending order.
	marks []uint32
	// any is the encoded Any; only of what a group keeps.
	any []byte

	mu sync.Mutex
	// from and added: the marks that it has and the fact from has not. Streams go from
	// the one to the other by the hundred.
	from  *fact
	added []uint32
}

// since returns the marks that are in f and not in before.
func (f *fact) since(before *fact) []uint32 {
	if len(f.marks) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == before {
		return f.added
	}
	var added []uint32
	for _, m := range f.marks {
		if _, had := slices.BinarySearch(before.marks, m); !had {
			added = append(added, m)
		}
	}
	f.from, f.added = before, added
	return added
}

// facts are all contents that were received, by their hash.
type facts struct {
	seed maphash.Seed
	all  sync.Map // factKey to *fact
}

type factKey struct {
	hash  uint64
	size  int
	delta bool
}

// Field numbers of envoy/service/discovery/v3/discovery.proto and google/protobuf/any.proto.
const (
	resourceVersion = 1
	resourceBody    = 2
	resourceName    = 3
	anyValue        = 2
	nameOfAll       = 1 // a resource's own name is its field 1
)

// get returns the fact of a resource: of a discovery.Resource where delta is set, else of
// an Any.
func (s *facts) get(t envoy.Type, raw []byte, delta, keep bool) (*fact, error) {
	k := factKey{maphash.Bytes(s.seed, raw), len(raw), delta}
	if f, ok := s.all.Load(k); ok && (!keep || f.(*fact).any != nil) {
		return f.(*fact), nil
	}
	f := &fact{}
	body := raw
	if delta {
		body = nil
		err := fields(raw, func(n protowire.Number, b []byte) {
			switch n {
			case resourceVersion:
				f.version = string(b)
			case resourceName:
				f.name = string(b)
			case resourceBody:
				body = b
			}
		})
		if err != nil {
			return nil, err
		}
	}
	f.hash = maphash.Bytes(s.seed, body)
	if keep {
		f.any = slices.Clone(body)
	}
	var value []byte
	err := fields(body, func(n protowire.Number, b []byte) {
		if n == anyValue {
			value = b
		}
	})
	if err != nil {
		return nil, err
	}
	if !delta {
		err = fields(value, func(n protowire.Number, b []byte) {
			if n == nameOfAll && f.name == "" {
				f.name = string(b)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if f.refs, err = references(t, value); err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", t, f.name, err)
	}
	f.marks = marksIn(value)
	s.all.Store(k, f)
	return f, nil
}

// fields calls f with each field of a message that has a length.
func fields(b []byte, f func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			f(num, v)
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// references returns what a proxy asks for because of a resource.
func references(t envoy.Type, value []byte) ([]string, error) {
	switch t {
	case envoy.TypeCluster:
		c := new(clusterv3.Cluster)
		if err := proto.Unmarshal(value, c); err != nil {
			return nil, err
		}
		if c.GetType() != clusterv3.Cluster_EDS {
			return nil, nil
		}
		if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
			return []string{name}, nil
		}
		return []string{c.GetName()}, nil
	case envoy.TypeListener:
		l := new(listenerv3.Listener)
		if err := proto.Unmarshal(value, l); err != nil {
			return nil, err
		}
		return routesOf(l)
	case envoy.TypeRoute:
		var r routev3.RouteConfiguration
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(value, &r); err != nil {
			return nil, err
		}
		if r.GetVhds() != nil {
			return []string{r.GetName()}, nil
		}
	}
	return nil, nil
}

// routesOf returns the route configurations that a listener's connection managers name.
func routesOf(l *listenerv3.Listener) ([]string, error) {
	var names []string
	for _, chain := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
		for _, filter := range chain.GetFilters() {
			m := new(hcmv3.HttpConnectionManager)
			if !filter.GetTypedConfig().MessageIs(m) {
				continue
			}
			if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
				return nil, err
			}
			if name := m.GetRds().GetRouteConfigName(); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// A change's number stands in what it changes: a route matches a prefix with it, an
// instance has an address of the network for benchmarks (RFC 2544) with it.
const (
	routeMark    = "/zq"
	routeDigits  = 8
	addressMark  = "198.18."
	addressMark1 = "198.19."
	// AddressMarks is how many changes addresses can number.
	AddressMarks = 1 << 17
)

// RouteMark returns the prefix that the route of a change matches.
func RouteMark(change uint32) string { return fmt.Sprintf("%s%0*d", routeMark, routeDigits, change) }

// AddressMark returns the address of the instance of a change.
func AddressMark(change uint32) string {
	change %= AddressMarks
	return netip.AddrFrom4([4]byte{198, 18 + byte(change>>16), byte(change >> 8), byte(change)}).String()
}

// marksIn finds the changes that are in a resource.
func marksIn(value []byte) []uint32 {
	var marks []uint32
	text := string(value)
	for rest := text; ; {
		i := strings.Index(rest, routeMark)
		if i < 0 || len(rest) < i+len(routeMark)+routeDigits {
			break
		}
		rest = rest[i+len(routeMark):]
		if n, err := strconv.ParseUint(rest[:routeDigits], 10, 32); err == nil {
			marks = append(marks, uint32(n))
		}
	}
	for _, prefix := range []string{addressMark, addressMark1} {
		for rest := text; ; {
			i := strings.Index(rest, prefix)
			if i < 0 {
				break
			}
			rest = rest[i:]
			end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
			if end < 0 {
				end = len(rest)
			}
			if a, err := netip.ParseAddr(rest[:end]); err == nil {
				b := a.As4()
				marks = append(marks, binary.BigEndian.Uint32(b[:])&(AddressMarks-1))
			}
			rest = rest[len(prefix):]
		}
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}

var errNotDiscovery = errors.New("a response of a type that was not asked for")
