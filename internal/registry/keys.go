package registry

import (
	"net/url"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// place is an account in a region. All records and all ids belong to one.
type place struct{ account, region string }

// The kinds of records of a place. DESIGN.md lists their keys.
const (
	namespaceKind = "namespace" // ID
	nameKind      = "name"      // NAME of a namespace, to its id
	serviceKind   = "service"   // ID
	insideKind    = "in"        // NAMESPACE-ID/NAME of a service, to its id
	instanceKind  = "instance"  // SERVICE-ID/ID; of what was imported NAMESPACE/SERVICE/ID
	beatKind      = "beat"      // SERVICE-ID/ID: gone when the lease is over
	revisionKind  = "revision"  // SERVICE-ID: written when instances come, change and go
)

// followed is the prefix of all records that are kept in memory.
const followed = "registry/"

func (p place) key(family, kind, rest string) string {
	return family + p.account + "/" + p.region + "/" + kind + "/" + rest
}

// own returns the key of a record of what was registered here.
func (p place) own(kind string, names ...string) string {
	return p.key(store.RegistryOwned, kind, strings.Join(names, "/"))
}

// operation returns the key of an operation; of all of them without an id.
func (p place) operation(id string) string {
	return store.RegistryOperations + p.account + "/" + p.region + "/" + id
}

// imported returns the key of what was imported for a service, by the names of namespace
// and service, which may hold slashes.
func (p place) imported(kind, namespace, service string) string {
	return p.key(store.RegistryImported, kind, url.PathEscape(namespace)+"/"+url.PathEscape(service))
}

// parsedKey is a key of a record that is followed.
type parsedKey struct {
	place
	imported bool
	kind     string
	rest     string
}

// parseKey reads a key. ok is false for one that this build does not know.
func parseKey(key string) (k parsedKey, ok bool) {
	rest, ok := strings.CutPrefix(key, store.RegistryOwned)
	if !ok {
		if rest, ok = strings.CutPrefix(key, store.RegistryImported); !ok {
			return k, false
		}
		k.imported = true
	}
	parts := strings.SplitN(rest, "/", 4)
	if len(parts) != 4 {
		return k, false
	}
	k.account, k.region, k.kind, k.rest = parts[0], parts[1], parts[2], parts[3]
	return k, true
}

// parseImported reads the names in the key of what was imported. id is "" for the
// service itself.
func parseImported(rest string) (s serviceName, id string, ok bool) {
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 {
		return s, "", false
	}
	var err1, err2 error
	s.namespace, err1 = url.PathUnescape(parts[0])
	s.service, err2 = url.PathUnescape(parts[1])
	if len(parts) == 3 {
		id = parts[2]
	}
	return s, id, err1 == nil && err2 == nil
}

// serviceName names a service by names alone.
type serviceName struct{ namespace, service string }
