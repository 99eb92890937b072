package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// matcher finds the lines that a query wants.
type matcher struct {
	q Query
	// must holds texts that each wanted line has: most lines are passed over by them
	// without being decoded. Account's own or shared ones have one of either.
	must   [][]byte
	either [][]byte
	arn    string
	prefix bool // arn is only how an ARN begins
}

func newMatcher(q Query) *matcher {
	m := &matcher{q: q}
	need := func(member, value string) {
		if value != "" {
			m.must = append(m.must, append([]byte(`"`+member+`":`), quoted(value)...))
		}
	}
	need("eventName", q.Name)
	need("errorCode", q.ErrorCode)
	need("userName", q.User)
	if m.arn, m.prefix = strings.CutSuffix(q.Resource, "*"); m.arn != "" {
		text := quoted(m.arn)
		m.must = append(m.must, text[1:len(text)-1])
	}
	if !q.All {
		m.either = [][]byte{
			append([]byte(`"recipientAccountId":`), quoted(q.Account)...),
			append([]byte(`"meshOwner":`), quoted(q.Account)...),
		}
	}
	return m
}

// quoted returns a text as it stands in a line.
func quoted(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// event returns what the asker is shown of a line, nil if it is not wanted or not to be
// seen. A line that is damaged is passed over.
func (m *matcher) event(line []byte) json.RawMessage {
	if !m.maybe(line) {
		return nil
	}
	var r record
	if json.Unmarshal(line, &r) != nil {
		return nil
	}
	own := m.q.All || r.Recipient == m.q.Account
	if !own {
		if r.AdditionalEventData == nil || r.AdditionalEventData.MeshOwner != m.q.Account {
			return nil
		}
		r = r.forOwner(m.q.Account)
	}
	if !m.wants(&r) {
		return nil
	}
	if own {
		return bytes.Clone(line)
	}
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	out, err := enc.encode(&r)
	if err != nil {
		return nil
	}
	return bytes.Clone(bytes.TrimSuffix(out, []byte("\n")))
}

// maybe reports whether a line can be wanted, by a look at its text.
func (m *matcher) maybe(line []byte) bool {
	if at, ok := timeOf(line); ok && !m.inTime(at) {
		return false
	}
	for _, text := range m.must {
		if !bytes.Contains(line, text) {
			return false
		}
	}
	for _, text := range m.either {
		if bytes.Contains(line, text) {
			return true
		}
	}
	return len(m.either) == 0
}

func (m *matcher) inTime(at time.Time) bool {
	return !at.Before(m.q.From) && (m.q.To.IsZero() || at.Before(m.q.To))
}

// wants reports whether a record, as the asker sees it, meets the conditions.
func (m *matcher) wants(r *record) bool {
	at, err := time.Parse(timeLayout, r.EventTime)
	if err != nil || !m.inTime(at) {
		return false
	}
	if m.q.Name != "" && r.EventName != m.q.Name || m.q.ErrorCode != "" && r.ErrorCode != m.q.ErrorCode {
		return false
	}
	return (m.q.User == "" || m.byUser(&r.UserIdentity)) && (m.q.Resource == "" || m.about(r))
}

func (m *matcher) byUser(i *identity) bool {
	return i.UserName == m.q.User || i.SessionContext != nil && i.SessionContext.SessionIssuer.UserName == m.q.User
}

func (m *matcher) about(r *record) bool {
	for _, res := range r.Resources {
		if m.isARN(res.ARN) {
			return true
		}
	}
	return m.isARN(r.ServiceEventDetails["nodeArn"])
}

func (m *matcher) isARN(s string) bool {
	if m.prefix {
		return s != "" && strings.HasPrefix(s, m.arn)
	}
	return s == m.arn
}

// allLater reports that a file which begins at a time has nothing early enough.
func (m *matcher) allLater(first time.Time) bool {
	return !first.IsZero() && !m.q.To.IsZero() && !first.Add(-disorder).Before(m.q.To)
}

// allEarlier reports that a file which ends at a time, like all before it, has nothing
// late enough.
func (m *matcher) allEarlier(last time.Time) bool {
	return !last.IsZero() && last.Add(disorder).Before(m.q.From)
}

// allEarlierThan is allEarlier for the lines before one.
func (m *matcher) allEarlierThan(line []byte) bool {
	if m.q.From.IsZero() {
		return false
	}
	at, ok := timeOf(line)
	return ok && m.allEarlier(at)
}
