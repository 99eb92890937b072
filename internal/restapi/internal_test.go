package restapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// fill returns a path with values for its labels.
func fill(path string, values ...string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i], values = url.PathEscape(values[0]), values[1:]
		}
	}
	return strings.Join(segments, "/")
}

// TestRouter finds each operation by its own path, with names that look like parts
// of other paths.
func TestRouter(t *testing.T) {
	t.Parallel()
	r := newRouter(operations, v1.Operations)
	if len(operations) != 38+5 {
		t.Errorf("the table has %d operations, the API has 38, and policies have 5", len(operations))
	}
	for i := range operations {
		op := &operations[i]
		for _, values := range [][]string{{"a", "b", "c"}, {"routes", "virtualNodes", "meshes"}, {"a/b c", "%2F", "é{meshName}"}} {
			rt, labels := r.match(op.Method, fill(op.Path, values...))
			if rt == nil || rt.op != op {
				t.Errorf("%s %s: found %+v", op.Method, fill(op.Path, values...), rt)
				continue
			}
			if diff := cmp.Diff(values[:len(rt.labels)], append([]string{}, labels[:len(rt.labels)]...)); diff != "" {
				t.Errorf("%s: labels (-want +got):\n%s", op.Name, diff)
			}
			for _, m := range op.Members {
				if m.In == InPath && rt.value(&labels, m.Name) == "" {
					t.Errorf("%s: no label for %s", op.Name, m.Name)
				}
			}
		}
	}
}

// TestOwnRouter finds each operation of /v1 by its path, and that its decoder knows the
// path's labels.
func TestOwnRouter(t *testing.T) {
	t.Parallel()
	r := newRouter(operations, v1.Operations)
	for i := range v1.Operations {
		op := &v1.Operations[i]
		for _, values := range [][]string{{"a", "b"}, {"accessKeys", "shares"}, {"a/b c", "%2F"}} {
			rt, labels := r.match(op.Method, fill(op.Path, values...))
			if rt == nil || rt.own != op {
				t.Errorf("%s %s: found %+v", op.Method, fill(op.Path, values...), rt)
				continue
			}
			for i, name := range rt.labels {
				if rt.value(&labels, name) != values[i] {
					t.Errorf("%s: label %s is %q", op.Name, name, rt.value(&labels, name))
				}
			}
		}
	}
}

// place returns the method and path of a route.
func place(rt *route) (method, path string) {
	if rt.own != nil {
		return rt.own.Method, rt.own.Path
	}
	return rt.op.Method, rt.op.Path
}

// FuzzRoute holds that no path makes the router fail, and that what it finds is
// what the path says.
func FuzzRoute(f *testing.F) {
	for i := range operations {
		f.Add(operations[i].Method, fill(operations[i].Path, "a/b", "é", "x y"))
	}
	for _, op := range v1.Operations {
		f.Add(op.Method, fill(op.Path, "a/b", "é"))
	}
	for _, p := range []string{"", "/", "//", "/v20190125", "/v20190125/meshes/", "/v20190125/meshes/%", "/v20190125/meshes/%zz", "/v20190125/meshes/a/../b", "/%76" + "20190125/meshes", "/v20190125/meshes/%2e%2e/virtualNodes"} {
		f.Add(http.MethodGet, p)
	}
	r := newRouter(operations, v1.Operations)
	f.Fuzz(func(t *testing.T, method, path string) {
		rt, labels := r.match(method, path)
		if rt == nil {
			return
		}
		wantMethod, wantPath := place(rt)
		if wantMethod != method || strings.Count(path, "/") != strings.Count(wantPath, "/") {
			t.Fatalf("%s %s is not %s", method, path, wantPath)
		}
		again, same := r.match(method, fill(wantPath, labels[:len(rt.labels)]...))
		if again != rt || same != labels {
			t.Errorf("%s %s: labels %q, then %q", method, path, labels, same)
		}
		for _, v := range labels[:len(rt.labels)] {
			if v == "" {
				t.Errorf("%s %s: an empty label in %q", method, path, labels)
			}
		}
	})
}

// FuzzDecode holds that no request makes the decoder fail, that it refuses in one
// line, and that what it lets through has what its operation requires.
func FuzzDecode(f *testing.F) {
	for i := range operations {
		f.Add(uint8(i), "n", "limit=1&meshOwner=000000000001&resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/m",
			[]byte(`{"clientToken":"t","spec":{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":1}]}},"listeners":[]},"tags":[{"key":"k","value":"v"}],"tagKeys":["k"],"meshName":"m","routeName":"r","virtualNodeName":"n","virtualRouterName":"r","virtualServiceName":"s","virtualGatewayName":"g","gatewayRouteName":"g"}`))
		f.Add(uint8(i), "..", "limit=x&limit=1", []byte(`{"tags":[{"key":"aws:"},{}],"tagKeys":[0],"spec":[]}`))
	}
	f.Add(uint8(1), "\x00", "a=%", []byte("{\"meshName\":\"\xff\"}"))
	f.Add(uint8(1), "", ";", []byte(`nul`))
	f.Fuzz(func(t *testing.T, index uint8, label, query string, body []byte) {
		op := &operations[int(index)%len(operations)]
		rt, _ := newRouter(operations, v1.Operations).match(op.Method, fill(op.Path, "a", "b", "c"))
		caller := store.Caller{Account: "000000000001", Region: "us-east-1"}
		in, err := decode(rt, &params{label, label, label}, query, body, caller)
		if err != nil {
			var refusal *mesh.Error
			if !errors.As(err, &refusal) || refusal.Code != mesh.ErrBadRequest || refusal.Message == "" || strings.ContainsAny(refusal.Message, "\n\r") {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		checkDecoded(t, in)
	})
}

// FuzzSTS reads forms of the query API: whatever is in one, it becomes an input of the
// operation that it names, or is refused as what the sender can mend.
func FuzzSTS(f *testing.F) {
	for name := range stsOperations {
		f.Add("Action=" + name + "&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A000000000001%3Arole%2Fr&RoleSessionName=me&DurationSeconds=900&Policy=%7B%7D&WebIdentityToken=a.b.c")
		f.Add("Action=" + name + "&Version=2011-06-15&DurationSeconds=0900&Policy=null&RoleArn=%ff")
	}
	f.Add("Action=GetCallerIdentity;Version=2011-06-15")
	h := &handler{sts: newSTSRoutes()}
	f.Fuzz(func(t *testing.T, body string) {
		form, rt, err := h.matchSTS([]byte(body))
		var in []byte
		if err == nil {
			in, err = rt.sts.input(rt.operation, form)
		}
		if err != nil {
			var refusal *mesh.Error
			if !errors.As(err, &refusal) || refusal.Message == "" || refusal.Code != mesh.ErrBadRequest && refusal.Code != mesh.ErrUnknownOperation {
				t.Fatalf("refused with %v", err)
			}
			if _, status, _ := stsWords(&exchange{}, err, refusal); status != http.StatusBadRequest {
				t.Fatalf("%v has status %d", err, status)
			}
			return
		}
		if _, _, bad := rt.own.Decode(func(string) string { return "" }, "", in); strings.Contains(rt.sts.named(bad).Error(), "request body") {
			t.Fatalf("%s became %s: %v", body, in, bad)
		}
	})
}

// checkDecoded checks that an input is whole.
func checkDecoded(t *testing.T, in *input) {
	t.Helper()
	switch in.op.Verb {
	case VerbCreate, VerbUpdate:
		if in.spec == nil || in.stored == nil {
			t.Errorf("%s without a spec: %+v", in.op.Name, in)
		}
	case VerbList, VerbListTags:
		if in.limit < 1 || in.limit > 100 {
			t.Errorf("%s with limit %d", in.op.Name, in.limit)
		}
	}
	if in.op.Verb != VerbList {
		if err := mesh.CheckName(in.id.Kind, in.id.Name); err != nil {
			t.Errorf("%s of %+v: %v", in.op.Name, in.id, err)
		}
		if in.id.Mesh.Name == "" || !mesh.ValidAccount(in.id.Mesh.Account) || in.id.Mesh.Region == "" {
			t.Errorf("%s in mesh %+v", in.op.Name, in.id.Mesh)
		}
	}
}

// TestEpoch holds how times are spelt.
func TestEpoch(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{1563809909282: "1563809909.282", 1563809909000: "1563809909.000", 7: "0.007"} {
		if got, err := appendEpoch(nil, time.UnixMilli(ms)); err != nil || string(got) != want {
			t.Errorf("%d ms: %s %v, want %s", ms, got, err, want)
		}
	}
	if _, err := appendEpoch(nil, time.Time{}); err == nil {
		t.Error("a time that was never set is written")
	}
}

// BenchmarkRoute matches the longest path of the API.
func BenchmarkRoute(b *testing.B) {
	r := newRouter(operations, v1.Operations)
	b.ReportAllocs()
	for b.Loop() {
		if rt, _ := r.match(http.MethodGet, "/v20190125/meshes/shop/virtualGateway/edge/gatewayRoutes/cart"); rt == nil {
			b.Fatal("no route")
		}
	}
}
