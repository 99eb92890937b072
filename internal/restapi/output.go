package restapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// data is the body of an answer about one object. App Mesh's API sends it bare, /v1 as a
// member with the kind's name.
type data struct {
	object   *mesh.Object
	status   status
	warnings []string // of /v1 only
}

// refs is the body of an answer that is a list of objects.
type refs struct {
	key  string // the member that holds the list
	list []*mesh.Object
	next string // the page token, "" on the last page
}

// status is the state of an object; INACTIVE is never sent.
type status string

const (
	active  status = "ACTIVE"
	deleted status = "DELETED"
)

// errorBody is the body of every refusal.
type errorBody struct {
	Message string `json:"message"`
}

// newData returns the answer about an object, or err.
func newData(o *mesh.Object, s status, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return data{object: o, status: s}, nil
}

// appender is an answer that writes itself: what is asked for most is not left to
// reflection, which takes a third of the time that the store does.
type appender interface {
	appendJSON(b []byte) ([]byte, error)
}

func (d data) appendJSON(b []byte) ([]byte, error) {
	o := d.object
	if !o.ID.Kind.Own() {
		return d.appendBare(b)
	}
	b = append(appendText(append(b, '{'), o.ID.Kind.String()), ':')
	b, err := d.appendBare(b)
	for i, w := range d.warnings {
		b = append(b, []string{`,"warnings":[`, ","}[min(i, 1)]...)
		b = appendText(b, w)
	}
	if len(d.warnings) > 0 {
		b = append(b, ']')
	}
	return append(b, '}'), err
}

// appendBare appends the object's description itself.
func (d data) appendBare(b []byte) ([]byte, error) {
	o := d.object
	b = appendNames(append(b, '{'), o.ID)
	b = append(b, `,"metadata":{"arn":`...)
	b = appendText(b, o.ARN())
	b = append(b, `,"uid":`...)
	b = appendText(b, o.UID)
	b, err := appendHistory(append(b, ','), o)
	if err != nil {
		return nil, err
	}
	b = append(b, `},"spec":`...)
	b = append(b, o.Spec...)
	b = append(b, `,"status":{"status":`...)
	b = appendText(b, string(d.status))
	return append(b, "}}"...), nil
}

func (r refs) appendJSON(b []byte) ([]byte, error) {
	b = append(appendText(append(b, '{'), r.key), ":["...)
	for i, o := range r.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNames(append(b, '{'), o.ID)
		b = append(b, `,"arn":`...)
		b = appendText(b, o.ARN())
		var err error
		if b, err = appendHistory(append(b, ','), o); err != nil {
			return nil, err
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if r.next != "" {
		b = append(b, `,"nextToken":`...)
		b = appendText(b, r.next)
	}
	return append(b, '}'), nil
}

// appendNames appends the members that say which object is meant: its mesh's name, its
// parent's if it has one, and its own.
func appendNames(b []byte, id mesh.ID) []byte {
	b = append(b, `"meshName":`...)
	b = appendText(b, id.Mesh.Name)
	if k := id.Kind.Parent(); k != 0 {
		b = append(appendText(append(b, ','), k.NameMember()), ':')
		b = appendText(b, id.Parent)
	}
	if id.Kind != mesh.KindMesh {
		b = append(appendText(append(b, ','), id.Kind.NameMember()), ':')
		b = appendText(b, id.Name)
	}
	return b
}

// appendHistory appends the members that say since when an object is as it is, and whose
// it is.
func appendHistory(b []byte, o *mesh.Object) ([]byte, error) {
	b = append(b, `"version":`...)
	b = strconv.AppendInt(b, o.Version, 10)
	for _, t := range []struct {
		name string
		at   time.Time
	}{{`,"createdAt":`, o.CreatedAt}, {`,"lastUpdatedAt":`, o.UpdatedAt}} {
		b = append(b, t.name...)
		if o.ID.Kind.Own() {
			b = appendText(b, v1.Time(t.at).String())
			continue
		}
		var err error
		if b, err = appendEpoch(b, t.at); err != nil {
			return nil, err
		}
	}
	b = append(b, `,"meshOwner":`...)
	b = appendText(b, o.ID.Mesh.Account)
	b = append(b, `,"resourceOwner":`...)
	return appendText(b, o.ResourceOwner), nil
}

// appendEpoch appends a time as the API spells it: seconds since 1970 with milliseconds,
// as a JSON number. Some clients take nothing else.
func appendEpoch(b []byte, t time.Time) ([]byte, error) {
	ms := t.UnixMilli()
	if ms < 0 {
		return nil, fmt.Errorf("writing a time: %s is before 1970", t)
	}
	b = append(strconv.AppendInt(b, ms/1000, 10), '.')
	for digit := int64(100); digit > 0; digit /= 10 {
		b = append(b, byte('0'+ms%1000/digit%10))
	}
	return b, nil
}

// appendText appends text as JSON.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := encode(s)
			if err != nil {
				return append(b, `""`...) // text can always be written
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// encode writes the body of an answer. Nothing is escaped for HTML: a spec comes
// back as it was sent.
func encode(v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		return a.appendJSON(make([]byte, 0, 1024))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("writing an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
