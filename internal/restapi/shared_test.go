package restapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSharedMeshesInLists pages through meshes of equal names that several accounts own,
// one at a time.
func TestSharedMeshesInLists(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	consumer := p.account(t, "000000000009")
	for _, id := range []string{"000000000002", "000000000003", "000000000004"} {
		owner := p.account(t, id)
		for _, name := range []string{"shop", "bank"} {
			p.must(t, owner, http.MethodPut, "/v20190125/meshes", fmt.Sprintf(`{"meshName":%q}`, name))
		}
		p.must(t, owner, http.MethodPut, "/v1/meshes/shop/shares", `{"accountId":"000000000009"}`)
	}
	p.must(t, consumer, http.MethodPut, "/v20190125/meshes", `{"meshName":"shop"}`)
	var got []string
	for token := ""; ; {
		path := "/v20190125/meshes?limit=1"
		if token != "" {
			path += "&nextToken=" + url.QueryEscape(token)
		}
		var page struct {
			Meshes    []struct{ MeshName, MeshOwner, ResourceOwner, ARN string }
			NextToken string
		}
		if err := json.Unmarshal([]byte(p.must(t, consumer, http.MethodGet, path, "").Body), &page); err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Meshes {
			got = append(got, m.MeshName+" "+m.MeshOwner+" "+m.ResourceOwner+" "+m.ARN)
		}
		if token = page.NextToken; token == "" || len(got) > 10 {
			break
		}
	}
	var want []string
	for _, id := range []string{"000000000002", "000000000003", "000000000004", "000000000009"} {
		want = append(want, "shop "+id+" "+id+" arn:aws:appmesh:us-east-1:"+id+":mesh/shop")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

// TestTagsOfSharedMesh holds that only a resource's owner has its tags, whatever the ARN
// says.
func TestTagsOfSharedMesh(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	consumer := p.account(t, "000000000002")
	p.must(t, p.admin, http.MethodPut, "/v20190125/meshes", `{"meshName":"shop"}`)
	p.must(t, p.admin, http.MethodPut, "/v1/meshes/shop/shares", `{"accountId":"000000000002"}`)
	p.must(t, consumer, http.MethodPut, "/v20190125/meshes/shop/virtualNodes?meshOwner=000000000001", `{"virtualNodeName":"till","spec":{}}`)
	const (
		theirs = "?resourceArn=arn:aws:appmesh:us-east-1:000000000002:mesh/shop@000000000001/virtualNode/till"
		wrong  = "?resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/till"
		body   = `{"tags":[{"key":"a","value":"b"}]}`
	)
	p.must(t, consumer, http.MethodPut, "/v20190125/tag"+theirs, body)
	p.must(t, consumer, http.MethodGet, "/v20190125/tags"+theirs, "")
	for _, path := range []string{theirs, wrong} {
		wantRefusal(t, p.do(t, p.admin, http.MethodPut, "/v20190125/tag"+path, body), 403, "ForbiddenException", "not authorized")
		wantRefusal(t, p.do(t, p.admin, http.MethodGet, "/v20190125/tags"+path, ""), 403, "ForbiddenException", "not authorized")
	}
	wantRefusal(t, p.do(t, consumer, http.MethodPut, "/v20190125/tag"+wrong, body), 403, "ForbiddenException", "not authorized")
	wantRefusal(t, p.do(t, consumer, http.MethodGet, "/v20190125/tags?resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/shop", ""), 403, "ForbiddenException", "not authorized")
}
