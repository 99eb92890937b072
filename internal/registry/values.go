package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// format is the version of the documents below. It is raised only for a change that an
// older build would misread; such a document it does not use.
const format = 1

// namespaceValue is the record of a namespace.
type namespaceValue struct {
	Format      int       `json:"format"`
	Name        string    `json:"name"`
	Type        string    `json:"type"`
	Description string    `json:"description,omitzero"`
	VPC         string    `json:"vpc,omitzero"`
	TTL         *int64    `json:"ttl,omitzero"` // of the SOA record
	Tags        []Tag     `json:"tags,omitzero"`
	Created     time.Time `json:"created"`
	made
}

// made is how something was created, so that the same request is known again.
type made struct {
	Token      string `json:"token,omitzero"`      // CreatorRequestId
	Parameters string `json:"parameters,omitzero"` // a hash
	Operation  string `json:"operation,omitzero"`
}

// serviceValue is the record of a service.
type serviceValue struct {
	Format      int                      `json:"format"`
	Name        string                   `json:"name"`
	Namespace   string                   `json:"namespace"` // its id
	Type        string                   `json:"type"`
	Description string                   `json:"description,omitzero"`
	DNS         *DnsConfig               `json:"dns,omitzero"`
	Custom      *HealthCheckCustomConfig `json:"customHealth,omitzero"`
	Attributes  map[string]string        `json:"attributes,omitzero"`
	Tags        []Tag                    `json:"tags,omitzero"`
	Created     time.Time                `json:"created"`
	made
}

// instanceValue is the record of an instance.
type instanceValue struct {
	Format     int               `json:"format"`
	Attributes map[string]string `json:"attributes"`
	Registered time.Time         `json:"registered"`
	// Unhealthy is the instance's custom health status.
	Unhealthy bool `json:"unhealthy,omitzero"`
	made
}

// beatValue is the record that lasts as long as an instance's lease.
type beatValue struct {
	Format int   `json:"format"`
	Lease  int64 `json:"lease"`
}

// markValue is the record of what is only there.
type markValue struct {
	Format int `json:"format"`
}

// importedValue is the record of an instance that was imported.
type importedValue struct {
	Format     int               `json:"format"`
	IPv4       string            `json:"ipv4,omitzero"`
	IPv6       string            `json:"ipv6,omitzero"`
	Port       uint32            `json:"port,omitzero"`
	Zone       string            `json:"zone,omitzero"`
	Attributes map[string]string `json:"attributes,omitzero"`
	Unhealthy  bool              `json:"unhealthy,omitzero"`
}

// operationValue is the record of an operation. All are done when they are written.
type operationValue struct {
	Format     int               `json:"format"`
	Type       string            `json:"type"`
	At         time.Time         `json:"at"`
	Targets    map[string]string `json:"targets"`
	Parameters string            `json:"parameters,omitzero"` // of the request that had its token
}

// put returns a record that is written if it has a revision now.
func put(key string, revision int64, value any) (store.Record, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return store.Record{}, fmt.Errorf("writing record %q: %w", key, err)
	}
	return store.Record{Key: key, Value: b, Revision: revision}, nil
}

// read reads a record.
func read[T any](rec store.Record) (v T, err error) {
	var f markValue
	if err := json.Unmarshal(rec.Value, &f); err != nil {
		return v, fmt.Errorf("reading record %q: %w", rec.Key, err)
	}
	if f.Format != format {
		return v, fmt.Errorf("reading record %q: its format is %d, this build knows %d", rec.Key, f.Format, format)
	}
	if err := json.Unmarshal(rec.Value, &v); err != nil {
		return v, fmt.Errorf("reading record %q: %w", rec.Key, err)
	}
	return v, nil
}

// hash returns a short hash of some texts, or of what they are as JSON.
func hash(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		b, err := json.Marshal(p) // of maps, in the order of the names
		if err != nil {
			b = fmt.Appendf(nil, "%#v", p)
		}
		h.Write(b)
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// The attributes that mean something here.
const (
	attrIPv4  = "AWS_INSTANCE_IPV4"
	attrIPv6  = "AWS_INSTANCE_IPV6"
	attrPort  = "AWS_INSTANCE_PORT"
	attrCNAME = "AWS_INSTANCE_CNAME"
	attrInit  = "AWS_INIT_HEALTH_STATUS"
	attrAlias = "AWS_ALIAS_DNS_NAME"
	attrEC2   = "AWS_EC2_INSTANCE_ID"
	attrZone  = "AVAILABILITY_ZONE"
	attrLease = "FAIRLEAD_LEASE_SECONDS"
)

// instance returns what translation is told of an instance. The attributes were checked
// when it was registered.
func (v *instanceValue) instance(id string) mesh.Instance {
	port, _ := strconv.ParseUint(v.Attributes[attrPort], 10, 16)
	return mesh.Instance{
		ID: id, IPv4: v.Attributes[attrIPv4], IPv6: v.Attributes[attrIPv6], Port: uint32(port),
		Zone: v.Attributes[attrZone], Attributes: v.Attributes, Unhealthy: v.Unhealthy,
	}
}

// lease returns for how many seconds an instance is there without being registered
// again, 0 for ever.
func lease(attributes map[string]string) int64 {
	n, _ := strconv.ParseInt(attributes[attrLease], 10, 64)
	return n
}

// Time is a time as the API spells it: seconds since 1970, to the millisecond. The zero
// value is no time.
type Time time.Time

// IsZero reports whether there is no time.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads a time.
func (t *Time) UnmarshalJSON(b []byte) error {
	s, err := strconv.ParseFloat(string(bytes.TrimSpace(b)), 64)
	if err != nil {
		return fmt.Errorf("reading a time: %w", err)
	}
	*t = Time(time.UnixMilli(int64(s * 1000)))
	return nil
}
