package restapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Look says what of a mesh is wanted of what replicas know.
type Look struct {
	Account, Region, Mesh string // Account owns the mesh
	// Of is the account whose proxies count, "" for all.
	Of string
	// After is the key that the page begins behind, "" for the first.
	After string
	// Limit is how many are wanted at most.
	Limit int
}

// Shows reports whether what concerns an ARN is wanted.
func (l Look) Shows(arn string) bool { return l.Of == "" || accountOf(arn) == l.Of }

// Known is a page of what all replicas know.
type Known[T any] struct {
	// Items are in the order of their keys, each once.
	Items []T
	// More says that there are others behind them.
	More bool
	// Missing are the replicas that did not answer.
	Missing []string
}

// Key is the place of a proxy among all.
func (p ProxyStatus) Key() string { return p.ARN + "\x00" + p.Connection }

// Key is the place of a problem among all; equal problems have equal keys.
func (p Problem) Key() string {
	message := sha256.Sum256([]byte(p.Message)) // it may be too long for a token
	return strings.Join([]string{p.ARN, p.Object, p.Field, hex.EncodeToString(message[:8])}, "\x00")
}

// ProxyStatus is what is known of one proxy that is connected.
type ProxyStatus struct {
	ARN         string // of its virtual node or virtual gateway
	Connection  string // the id of its stream
	Peer        string // the address it connects from, with its port
	Version     string // Envoy's, "" if it did not say
	Protocol    string // "delta" or "sotw"
	ConnectedAt time.Time
	InSync      bool   // it has acknowledged all that its configuration is made of
	Rejected    string // what it said of what it rejected last, "" if it did not
	Caller      string // the ARN of who signed the stream
}

// Configuration is what the proxies of a virtual node or gateway are sent.
type Configuration struct {
	ARN         string
	Placement   string // how the proxies are placed, for people
	Connection  string // the id of the stream of a proxy that is placed so, "" if none is connected
	Resources   []Resource
	Explanation []Explanation
	Problems    []Problem
}

// Resource is one Envoy resource.
type Resource struct {
	Type, Name string
	Content    json.RawMessage // Envoy's message
}

// Explanation is a line that says what a part of a configuration does.
type Explanation struct {
	Depth  int // below the lines before it, from 0
	Text   string
	Object string // what causes it, "" if nothing does
}

// Problem is something in a mesh that cannot be obeyed.
type Problem struct {
	ARN     string // of the virtual node or virtual gateway whose proxies it concerns, else of the object
	Object  string // what causes it, for example "virtualRouter/cart/route/all"
	Field   string // in the object's spec, "" if there is no single one
	Message string
}

// BundleStreams are the agents of a mesh that hold a stream for its trust bundle.
type BundleStreams struct {
	// Connected are all of them, Current those that have the present bundle.
	Connected, Current int
	// Missing are the replicas that did not answer.
	Missing []string
}
