package restapi

import (
	"encoding/json"
	"time"
)

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
	ARN     string // of the virtual node or virtual gateway whose proxies it concerns
	Object  string // what causes it, for example "virtualRouter/cart/route/all"
	Field   string // in the object's spec, "" if there is no single one
	Message string
}
