package registry

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// FuzzDecodeCall decodes any body as the input of any operation: it is refused in one line
// of text, or what was read is read again as the same.
func FuzzDecodeCall(f *testing.F) {
	names := slices.Sorted(maps.Keys(operations))
	for _, body := range []string{
		``, `{`, `null`, `[]`, `{"Name":"a","Tags":[{"Key":"k","Value":"v"}]}`, `{"ServiceId":"srv-a","InstanceId":"i","Attributes":{"a":"b","c":null}}`,
		`{"NamespaceName":"n","ServiceName":"s","MaxResults":1e3,"QueryParameters":{"":""}}`, `{"Filters":[{"Name":"TYPE","Values":["HTTP"]}],"MaxResults":0}`,
		`{"Id":"x","Service":{"DnsConfig":{"DnsRecords":[{"Type":"A","TTL":1}]}}}`, "{\"Name\":\"\xff\"}",
	} {
		for i := range names {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, body string) {
		op := operations[names[int(n)%len(names)]]
		in, err := decode(op, []byte(body))
		if err != nil {
			var refusal *mesh.Error
			if !errors.As(err, &refusal) || refusal.Code != ErrInvalidInput || strings.ContainsAny(refusal.Message, "\n\r") {
				t.Fatalf("%q is refused with %v", body, err)
			}
			return
		}
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(op, again)
		if err != nil {
			t.Fatalf("%q was read as %s, which is refused: %v", body, again, err)
		}
		if d := cmp.Diff(in, back); d != "" {
			t.Fatalf("%q is read otherwise the second time:\n%s", body, d)
		}
	})
}

// FuzzKeys reads any key: what is read is where it was written.
func FuzzKeys(f *testing.F) {
	f.Add("shop", "cart", "a/b")
	f.Add("a/b", "%2F", "")
	f.Fuzz(func(t *testing.T, namespace, service, id string) {
		if _, ok := parseKey(id); ok && !strings.HasPrefix(id, followed) {
			t.Errorf("%q is taken for a key", id)
		}
		key := here.imported(instanceKind, namespace, service) + "/" + id
		k, ok := parseKey(key)
		name, got, ok2 := parseImported(k.rest)
		if !ok || !ok2 || name != (serviceName{namespace, service}) || got != id || !k.imported || k.place != here {
			t.Errorf("%q is read as %+v, %+v, %q", key, k, name, got)
		}
	})
}
