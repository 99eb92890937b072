package v1

import (
	"fmt"
	"net/http"
	"time"
)

// Operation is one operation of /v1.
type Operation struct {
	// Name is the operation's name, for example CreateUser.
	Name string
	// Method and Path are matched against requests. A path is made of literal segments
	// and of labels in braces, each of which stands for one segment.
	Method, Path string
	// Unsigned is set where requests need no signature: who calls is found out by what
	// they bring.
	Unsigned bool

	input    string // the name of the input's shape
	newInput func() any
	// The names of the members that each part of a request carries, sorted.
	path, query, body []string
}

// ReadOnly reports whether the operation changes nothing.
func (o *Operation) ReadOnly() bool { return o.Method == http.MethodGet }

// Time is a time as /v1 spells it: RFC 3339 in UTC, to the millisecond. The zero value
// is no time.
type Time time.Time

// timeLayout is the form that times are written in. RFC 3339 in any form is read.
const timeLayout = "2006-01-02T15:04:05.000Z"

// IsZero reports whether there is no time.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// String returns the time as /v1 spells it.
func (t Time) String() string { return time.Time(t).UTC().Format(timeLayout) }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON reads a time.
func (t *Time) UnmarshalJSON(b []byte) error {
	if err := (*time.Time)(t).UnmarshalJSON(b); err != nil {
		return fmt.Errorf("reading a time: %w", err)
	}
	return nil
}
