package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// record is an event as it is written. Its members are those of CloudTrail's records
// (CloudTrail user guide, "Record contents"). The time stands first behind the version,
// at a place that can be found without reading the rest (timeOf).
type record struct {
	EventVersion        string            `json:"eventVersion"`
	EventTime           string            `json:"eventTime"`
	UserIdentity        identity          `json:"userIdentity"`
	EventSource         string            `json:"eventSource"`
	EventName           string            `json:"eventName"`
	Region              string            `json:"awsRegion"`
	SourceIP            string            `json:"sourceIPAddress"`
	UserAgent           string            `json:"userAgent"`
	ErrorCode           string            `json:"errorCode,omitempty"`
	ErrorMessage        string            `json:"errorMessage,omitempty"`
	AdditionalEventData *additional       `json:"additionalEventData,omitempty"`
	RequestID           string            `json:"requestID,omitempty"`
	EventID             string            `json:"eventID"`
	ReadOnly            bool              `json:"readOnly"`
	Resources           []Resource        `json:"resources,omitempty"`
	EventType           string            `json:"eventType"`
	APIVersion          string            `json:"apiVersion,omitempty"`
	ManagementEvent     bool              `json:"managementEvent"`
	Recipient           string            `json:"recipientAccountId,omitempty"`
	SharedEventID       string            `json:"sharedEventID,omitempty"`
	ServiceEventDetails map[string]string `json:"serviceEventDetails,omitempty"`
	EventCategory       string            `json:"eventCategory"`
	// These two stand last, where they are put without being read again (encode).
	RequestParameters json.RawMessage `json:"requestParameters"`
	ResponseElements  json.RawMessage `json:"responseElements"`
	checked           bool            // that both are JSON
}

type identity struct {
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	Account        string          `json:"accountId,omitempty"`
	KeyID          string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *sessionContext `json:"sessionContext,omitempty"`
}

type sessionContext struct {
	SessionIssuer issuer `json:"sessionIssuer"`
}

type issuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId,omitempty"`
	ARN         string `json:"arn,omitempty"`
	Account     string `json:"accountId,omitempty"`
	UserName    string `json:"userName,omitempty"`
}

// additional holds what CloudTrail's records have no member for.
type additional struct {
	MeshOwner string `json:"meshOwner,omitempty"`
}

const (
	eventVersion = "1.08"
	timeLayout   = "2006-01-02T15:04:05Z" // CloudTrail's: whole seconds, UTC
	// The versions of the APIs that have one.
	appMeshVersion  = "2019-01-25"
	cloudMapVersion = "2017-03-14"
	stsVersion      = "2011-06-15"
)

// Bounds of what a record holds, in bytes.
const (
	maxName      = 128
	maxText      = 1 << 10 // user agents, messages
	maxARN       = 2 << 10
	maxBody      = 64 << 10
	maxResources = 64
	maxDetails   = 16
)

// newRecord returns the record of an event.
func newRecord(e *Event, now func() time.Time) record {
	at := e.Time
	if at.IsZero() {
		at = now()
	}
	r := record{
		EventVersion: eventVersion, EventTime: at.UTC().Format(timeLayout),
		UserIdentity: newIdentity(&e.Principal),
		EventSource:  clip(e.Source, maxName), EventName: clip(e.Name, maxName), Region: clip(e.Region, maxName),
		SourceIP: clip(e.SourceIP, maxName), UserAgent: clip(e.UserAgent, maxText),
		ErrorCode: clip(e.ErrorCode, maxName), ErrorMessage: clip(e.ErrorMessage, maxText),
		RequestParameters: body("requestParameters", e.Request), ResponseElements: body("responseElements", e.Response),
		RequestID: clip(e.RequestID, maxName), EventID: uuid.NewString(), ReadOnly: e.ReadOnly,
		Resources: resources(e.Resources), EventType: "AwsApiCall", ManagementEvent: true,
		Recipient: clip(e.Account, maxName), EventCategory: "Management", checked: e.Checked,
	}
	if r.EventName == "" {
		r.EventName = "Unknown"
	}
	switch {
	case e.Details != nil:
		r.EventType, r.ServiceEventDetails = "AwsServiceEvent", details(e.Details)
	case e.Source == AppMesh:
		r.APIVersion = appMeshVersion
	case e.Source == CloudMap:
		r.APIVersion = cloudMapVersion
	case e.Source == STS:
		r.APIVersion = stsVersion
	}
	if e.Owner != "" && e.Owner != e.Account {
		r.AdditionalEventData = &additional{MeshOwner: clip(e.Owner, maxName)}
		r.SharedEventID = uuid.NewString()
	}
	return r
}

func newIdentity(p *Identity) identity {
	out := identity{
		Type: clip(p.Type, maxName), PrincipalID: clip(p.ID, maxText), ARN: clip(p.ARN, maxARN),
		Account: clip(p.Account, maxName), KeyID: clip(p.KeyID, maxName), UserName: clip(p.User, maxName),
	}
	if out.Type == "" {
		out.Type = "Unknown"
	}
	if p.Role != "" {
		out.SessionContext = &sessionContext{issuer{
			Type: "Role", PrincipalID: clip(p.RoleID, maxName), ARN: clip(p.RoleARN, maxARN),
			Account: clip(p.Account, maxName), UserName: clip(p.Role, maxName),
		}}
	}
	return out
}

// clip cuts a text to at most n bytes, the mark of it included.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	end := n - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// body returns JSON that fits into a record. What is too long is replaced by a note, as
// CloudTrail does.
func body(member string, raw json.RawMessage) json.RawMessage {
	switch {
	case len(raw) == 0:
		return nil
	case len(raw) > maxBody:
		return omitted(member+" too large", len(raw))
	case !utf8.Valid(raw):
		return bytes.ToValidUTF8(raw, []byte(string(utf8.RuneError)))
	}
	return raw
}

func omitted(reason string, size int) json.RawMessage {
	return fmt.Appendf(nil, `{"reason":%q,"omitted":true,"originalSize":%d}`, reason, size)
}

func resources(all []Resource) []Resource {
	out := make([]Resource, 0, min(len(all), maxResources))
	for _, r := range all[:min(len(all), maxResources)] {
		out = append(out, Resource{ARN: clip(r.ARN, maxARN), Account: clip(r.Account, maxName), Type: clip(r.Type, maxName)})
	}
	return out
}

func details(all map[string]string) map[string]string {
	out := make(map[string]string, len(all))
	for k, v := range all {
		if len(out) < maxDetails {
			out[clip(k, maxName)] = clip(v, maxARN)
		}
	}
	return out
}

// encoder makes lines; encoders are pooled.
type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
	return e
}}

// encode returns the line of a record, its end included; it is good until the encoder
// is used again.
func (e *encoder) encode(r *record) ([]byte, error) {
	if r.checked {
		return e.append(*r)
	}
	e.buf.Reset()
	if err := e.json.Encode(r); err == nil {
		return e.buf.Bytes(), nil
	}
	// Only what was handed over as JSON can be at fault.
	for _, part := range []struct {
		member string
		raw    *json.RawMessage
	}{{"requestParameters", &r.RequestParameters}, {"responseElements", &r.ResponseElements}} {
		if *part.raw != nil && !json.Valid(*part.raw) {
			*part.raw = omitted(part.member+" not valid JSON", len(*part.raw))
		}
	}
	e.buf.Reset()
	err := e.json.Encode(r)
	return e.buf.Bytes(), err
}

// append is encode for a record whose request and response are known to be JSON. They are
// most of it, and are added behind the rest as they are, but for the ends of lines.
func (e *encoder) append(r record) ([]byte, error) {
	request, response := r.RequestParameters, r.ResponseElements
	r.RequestParameters, r.ResponseElements = nil, nil
	e.buf.Reset()
	if err := e.json.Encode(&r); err != nil {
		return nil, err
	}
	const none = `,"requestParameters":null,"responseElements":null}` + "\n"
	e.buf.Truncate(e.buf.Len() - len(none))
	e.buf.WriteString(`,"requestParameters":`)
	e.raw(request)
	e.buf.WriteString(`,"responseElements":`)
	e.raw(response)
	e.buf.WriteString("}\n")
	return e.buf.Bytes(), nil
}

// raw appends JSON in one line.
func (e *encoder) raw(raw json.RawMessage) {
	switch {
	case raw == nil:
		e.buf.WriteString("null")
	case bytes.IndexByte(raw, '\n') < 0 || json.Compact(&e.buf, raw) != nil:
		e.buf.Write(raw)
	}
}

// forOwner returns the record as the owner of a shared mesh sees it: of the caller,
// only the account and the principal's id, as CloudTrail shows calls of other accounts.
func (r record) forOwner(owner string) record {
	r.UserIdentity = identity{Type: "AWSAccount", PrincipalID: r.UserIdentity.PrincipalID, Account: r.UserIdentity.Account}
	if id, err := uuid.Parse(r.EventID); err == nil {
		r.EventID = uuid.NewSHA1(id, []byte(owner)).String()
	}
	r.Recipient = owner
	return r
}

// timeOf reads the time of a line without decoding it; ok is false for a line that this
// package did not write.
func timeOf(line []byte) (at time.Time, ok bool) {
	const head = `{"eventVersion":"` + eventVersion + `","eventTime":"`
	if len(line) < len(head)+len(timeLayout) || !strings.HasPrefix(string(line[:len(head)]), head) {
		return time.Time{}, false
	}
	at, err := time.Parse(timeLayout, string(line[len(head):len(head)+len(timeLayout)]))
	return at, err == nil
}
