package v1

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// operation returns the operation of a name.
func operation(tb testing.TB, name string) *Operation {
	tb.Helper()
	for i := range Operations {
		if Operations[i].Name == name {
			return &Operations[i]
		}
	}
	tb.Fatalf("there is no operation %s", name)
	return nil
}

func noLabels(string) string { return "" }

// TestDecode reads inputs whose members come from every part of a request.
func TestDecode(t *testing.T) {
	t.Parallel()
	label := func(name string) string {
		return map[string]string{"userName": "ann", "meshName": "shop", "quotaName": "meshes"}[name]
	}
	at := time.Date(2026, 11, 23, 8, 15, 30, 250e6, time.UTC)
	for _, c := range []struct {
		op, query, body string
		want            any
		parameters      string
	}{
		{"GetCallerIdentity", "", "", &GetCallerIdentityInput{}, `{}`},
		{"UpdateUser", "", `{"policies": {"a": {"Version": "2012-10-17", "x": [1, 2.50]}}, "userName": null}`, nil, ""},
		{
			"UpdateUser", "", `{"policies": {"a": {"Version": "2012-10-17", "x<": [1, 2.50]}}}`,
			&UpdateUserInput{UserName: "ann", Policies: map[string]json.RawMessage{"a": []byte(`{"Version":"2012-10-17","x<":[1,2.50]}`)}},
			`{"policies":{"a":{"Version":"2012-10-17","x<":[1,2.50]}},"userName":"ann"}`,
		},
		{"ListUsers", "limit=7&nextToken=a%2Bb", "", &ListUsersInput{Limit: 7, NextToken: "a+b"}, `{"limit":7,"nextToken":"a+b"}`},
		{"UpdateQuota", "accountId=000000000002", `{"value":0}`, &UpdateQuotaInput{AccountID: "000000000002", QuotaName: "meshes"}, `{"accountId":"000000000002","quotaName":"meshes","value":0}`},
		{"CreateSession", "", "", &CreateSessionInput{}, `{}`},
		{"CreateSession", "", `{"durationSeconds":null}`, &CreateSessionInput{}, `{}`},
		{"ListEvents", "startTime=2026-11-23T09:15:30.25%2B01:00", "", &ListEventsInput{StartTime: Time(at)}, `{"startTime":"2026-11-23T09:15:30.25+01:00"}`},
	} {
		in, parameters, bad := operation(t, c.op).Decode(label, c.query, []byte(c.body))
		if c.want == nil {
			if len(bad) == 0 {
				t.Errorf("%s %s: accepted as %+v", c.op, c.body, in)
			}
			continue
		}
		if len(bad) > 0 {
			t.Errorf("%s: %v", c.op, bad)
			continue
		}
		same := cmp.Comparer(func(a, b Time) bool { return time.Time(a).Equal(time.Time(b)) })
		if diff := cmp.Diff(c.want, in, same); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.op, diff)
		}
		if string(parameters) != c.parameters {
			t.Errorf("%s: parameters %s, want %s", c.op, parameters, c.parameters)
		}
	}
}

// TestDecodeRefuses holds what is said of requests that are wrong: all of it, by field.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ op, query, body, says string }{
		{"CreateUser", "", "", "request body is required: a JSON object with userName"},
		{"CreateUser", "", "{", "request body is not valid JSON: unexpected end of JSON input (at byte 1)"},
		{"CreateUser", "", "[]", "request body must be a JSON object"},
		{"CreateUser", "", "null", "request body must be a JSON object"},
		{"CreateUser", "", "{\"userName\":\"\xff\"}", "request body must be JSON in UTF-8, it has bytes that are not"},
		{"CreateUser", "", `{"userName":7}`, "userName must be a string, the number 7 was given"},
		{
			"CreateUser", "x=1", `{"userName":"a b","polices":{},"policies":[]}`,
			`x is not a parameter of CreateUser; polices is not a member of CreateUser's body, allowed are policies, userName; policies must be an object, a list was given; userName must match ^[A-Za-z0-9_+=,.@-]+$, "a b" was given`,
		},
		{"CreateUser", "", `{"userName":"a","policies":{"p q":"text"}}`, `the name of policies.p q must match ^[A-Za-z0-9_+=,.@-]+$, "p q" was given; policies.p q must be an object, the string "text" was given`},
		{"CreateUser", "", `{"userName":"` + strings.Repeat("a", 65) + `"}`, `userName must have 1 to 64 characters, "` + strings.Repeat("a", 65) + `" was given`},
		{"CreateUser", "", `{"userName":"a","policies":{` + strings.TrimSuffix(entries(21), ",") + `}}`, "policies must have 0 to 20 entries, 21 were given"},
		{"UpdateAccessKey", "", `{"status":"active"}`, `accessKeyId must have 4 to 128 characters, "" was given; status must be one of ACTIVE, INACTIVE, "active" was given; userName must have 1 to 64 characters, "" was given`},
		{"ListUsers", "limit=0", "", "limit must be a whole number from 1 to 100, the number 0 was given"},
		{"ListUsers", "limit=101", "", "limit must be a whole number from 1 to 100, the number 101 was given"},
		{"ListUsers", "limit=%2B5", "", `limit must be a whole number from 1 to 100, the string "+5" was given`},
		{"ListUsers", "limit=007", "", `limit must be a whole number from 1 to 100, the string "007" was given`},
		{"ListUsers", "limit=1&limit=1", "", "limit must be given once, 2 were given"},
		{"ListUsers", "limit=%zz", "", "query string cannot be read, allowed are percent-encoded NAME=VALUE pairs with & between them"},
		{"ListEvents", "startTime=yesterday", "", `startTime must be a time such as 2026-11-23T08:15:30Z, "yesterday" was given`},
		{"AssumeRole", "", `{"roleArn":"r","sessionName":"ab","durationSeconds":899.5,"policy":true}`, "durationSeconds must be a whole number from 900 to 43200, the number 899.5 was given; policy must be an object, true was given"},
		{"CreateRole", "", `{}`, "roleName is required; trustPolicy is required"},
	} {
		in, _, bad := operation(t, c.op).Decode(noLabels, c.query, []byte(c.body))
		if in != nil || bad.Error() != c.says {
			t.Errorf("%s ?%s %s:\n got %v\nwant %s", c.op, c.query, c.body, bad, c.says)
		}
	}
}

// entries returns n members of an object.
func entries(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"p` + strings.Repeat("x", i) + `":{},`)
	}
	return b.String()
}

// FuzzDecode holds that no request makes the decoder fail, and that what it lets through
// is JSON again.
func FuzzDecode(f *testing.F) {
	for i := range Operations {
		f.Add(uint8(i), "ann", "limit=1&accountId=000000000001", []byte(`{"userName":"a","policies":{"p":{}},"value":1,"set":"default","status":"ACTIVE"}`))
		f.Add(uint8(i), "", "limit=x&startTime=1", []byte(`{"policies":{"p":0},"value":1e9,"trustPolicy":[]}`))
	}
	f.Fuzz(func(t *testing.T, index uint8, label, query string, body []byte) {
		op := &Operations[int(index)%len(Operations)]
		in, parameters, bad := op.Decode(func(string) string { return label }, query, body)
		if !json.Valid(parameters) {
			t.Errorf("%s: parameters %s", op.Name, parameters)
		}
		if (in == nil) != (len(bad) > 0) || strings.ContainsAny(bad.Error(), "\n\r") {
			t.Errorf("%s: %+v, %q", op.Name, in, bad.Error())
		}
	})
}

// TestTime holds how times are written and read.
func TestTime(t *testing.T) {
	t.Parallel()
	at := Time(time.Date(2026, 11, 23, 9, 15, 30, 250_999_999, time.FixedZone("", 3600)))
	b, err := json.Marshal(struct {
		A Time `json:"a"`
		B Time `json:"b,omitzero"`
	}{A: at})
	if err != nil || string(b) != `{"a":"2026-11-23T08:15:30.250Z"}` {
		t.Errorf("written as %s, %v", b, err)
	}
	var back Time
	if err := json.Unmarshal([]byte(`"x"`), &back); err == nil {
		t.Error("nonsense is read as a time")
	}
}
