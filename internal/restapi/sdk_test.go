package restapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
)

// newClient returns the AWS SDK's client, unchanged, with a new server's first
// administrator as its user. Nothing of the environment is read.
func newClient(t *testing.T) *appmesh.Client {
	t.Helper()
	s := openStore(t)
	a, err := access.Open(t.Context(), access.Config{Store: s, Regions: []string{testRegion}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	var creds access.Credentials
	if _, err := a.Bootstrap(t.Context(), testAccount, func(c access.Credentials) error { creds = c; return nil }); err != nil {
		t.Fatal(err)
	}
	srv := serve(t, restapi.New(restapi.Config{Store: s, Verify: a.Verify, Logger: testLogger(t)}))
	return appmesh.New(appmesh.Options{
		Region: testRegion, BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey}, nil
		}),
	})
}

// TestSDK does with each kind what clients do with it: create, describe, list with
// pages of one, update, tag, untag, delete.
func TestSDK(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	kinds := sdkKinds(c)
	for _, k := range kinds {
		// In order: each kind needs those before it.
		if !t.Run(k.kind+"/create", func(t *testing.T) { sdkCreate(t, c, k) }) {
			t.FailNow()
		}
	}
	for _, k := range kinds {
		t.Run(k.kind+"/update", func(t *testing.T) { sdkUpdate(t, c, k) })
		t.Run(k.kind+"/tag", func(t *testing.T) { sdkTag(t, c, k) })
	}
	for _, k := range slices.Backward(kinds) {
		t.Run(k.kind+"/delete", func(t *testing.T) { sdkDelete(t, c, k) })
	}
}

func sdkCreate(t *testing.T, c *appmesh.Client, k sdkKind) {
	ctx := t.Context()
	for i, name := range k.names {
		got, err := k.create(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if got.name != name || got.status != "ACTIVE" || got.version != 1 || got.uid == "" || !strings.HasSuffix(got.arn, "/"+name) {
			t.Errorf("created %+v", got)
		}
		if !got.created.Equal(got.updated) || got.owner != testAccount {
			t.Errorf("created %+v", got)
		}
		described, err := k.describe(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, described, cmp.AllowUnexported(sdkObject{})); diff != "" {
			t.Errorf("described otherwise than created (-created +described):\n%s", diff)
		}
		if names := sdkNames(t, k, 1); !slices.Equal(names, slices.Sorted(slices.Values(k.names[:i+1]))) {
			t.Errorf("listed %q in pages of 1", names)
		}
	}
	_, err := k.create(ctx, k.names[0])
	var conflict *types.ConflictException
	if !errors.As(err, &conflict) || conflict.ErrorFault() != smithy.FaultClient {
		t.Errorf("creating it again: %v", err)
	}
}

// sdkNames lists a kind to its end in pages of a size.
func sdkNames(t *testing.T, k sdkKind, limit int32) []string {
	t.Helper()
	var all []string
	for token := (*string)(nil); ; {
		names, next, err := k.list(t.Context(), limit, token)
		if err != nil || len(names) > int(limit) {
			t.Fatalf("listing with limit %d: %q %v", limit, names, err)
		}
		all = append(all, names...)
		if next == nil {
			return all
		}
		token = next
	}
}

func sdkUpdate(t *testing.T, c *appmesh.Client, k sdkKind) {
	ctx := t.Context()
	before, err := k.describe(ctx, k.names[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.update(ctx, k.names[0])
	if err != nil {
		t.Fatal(err)
	}
	if got.version != 2 || got.uid != before.uid || !got.created.Equal(before.created) || got.updated.Before(before.updated) {
		t.Errorf("updated %+v to %+v", before, got)
	}
	if cmp.Equal(got.spec, before.spec, cmpSDK) {
		t.Errorf("the spec is still %+v", got.spec)
	}
	if described, err := k.describe(ctx, k.names[0]); err != nil || !cmp.Equal(got, described, cmp.AllowUnexported(sdkObject{}), cmpSDK) {
		t.Errorf("described %+v (%v) after the update to %+v", described, err, got)
	}
	_, err = k.update(ctx, "missing")
	var notFound *types.NotFoundException
	if !errors.As(err, &notFound) || notFound.ErrorFault() != smithy.FaultClient {
		t.Errorf("updating what is missing: %v", err)
	}
}

func sdkTag(t *testing.T, c *appmesh.Client, k sdkKind) {
	ctx := t.Context()
	o, err := k.describe(ctx, k.names[0])
	if err != nil {
		t.Fatal(err)
	}
	tags := []types.TagRef{{Key: aws.String("b"), Value: aws.String("2")}, {Key: aws.String("a"), Value: aws.String("")}}
	if _, err := c.TagResource(ctx, &appmesh.TagResourceInput{ResourceArn: &o.arn, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	if got := sdkTags(t, c, o.arn); !slices.Equal(got, []string{"created=yes", "b=2", "a="}) {
		t.Errorf("tags %q", got)
	}
	if _, err := c.UntagResource(ctx, &appmesh.UntagResourceInput{ResourceArn: &o.arn, TagKeys: []string{"created", "b"}}); err != nil {
		t.Fatal(err)
	}
	if got := sdkTags(t, c, o.arn); !slices.Equal(got, []string{"a="}) {
		t.Errorf("tags %q", got)
	}
	if after, err := k.describe(ctx, k.names[0]); err != nil || after.version != o.version {
		t.Errorf("tagging made version %d of %d (%v)", after.version, o.version, err)
	}
	many := make([]types.TagRef, 50)
	for i := range many {
		many[i] = types.TagRef{Key: aws.String(fmt.Sprint("k", i)), Value: aws.String("")}
	}
	_, err = c.TagResource(ctx, &appmesh.TagResourceInput{ResourceArn: &o.arn, Tags: many})
	var tooMany *types.TooManyTagsException
	if !errors.As(err, &tooMany) || tooMany.ErrorFault() != smithy.FaultClient {
		t.Errorf("51 tags: %v", err)
	}
}

// sdkTags lists tags in pages of one.
func sdkTags(t *testing.T, c *appmesh.Client, arn string) (tags []string) {
	t.Helper()
	p := appmesh.NewListTagsForResourcePaginator(c, &appmesh.ListTagsForResourceInput{ResourceArn: &arn, Limit: aws.Int32(1)})
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range page.Tags {
			tags = append(tags, *tag.Key+"="+*tag.Value)
		}
	}
	return tags
}

func sdkDelete(t *testing.T, c *appmesh.Client, k sdkKind) {
	ctx := t.Context()
	for _, name := range k.names {
		before, err := k.describe(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.remove(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		want := before.version + 1
		if k.kind == "mesh" {
			want = before.version
		}
		if got.status != "DELETED" || got.version != want || !cmp.Equal(got.spec, before.spec, cmpSDK) || got.uid != before.uid {
			t.Errorf("deleted %+v, it was %+v", got, before)
		}
		var notFound *types.NotFoundException
		if _, err := k.describe(ctx, name); !errors.As(err, &notFound) {
			t.Errorf("describing what was deleted: %v", err)
		}
		if _, err := k.remove(ctx, name); !errors.As(err, &notFound) {
			t.Errorf("deleting what was deleted: %v", err)
		}
	}
}

// TestSDKErrors holds that each exception arrives as its own type, with its fault.
func TestSDKErrors(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	ctx := t.Context()
	shop, cart := aws.String("shop"), aws.String("cart")
	if _, err := c.CreateMesh(ctx, &appmesh.CreateMeshInput{MeshName: shop}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVirtualNode(ctx, &appmesh.CreateVirtualNodeInput{MeshName: shop, VirtualNodeName: cart, Spec: &types.VirtualNodeSpec{}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateMesh(ctx, &appmesh.CreateMeshInput{MeshName: aws.String(strings.Repeat("x", 256))})
	wantAPIError(t, err, new(*types.BadRequestException), "BadRequestException")
	_, err = c.DeleteMesh(ctx, &appmesh.DeleteMeshInput{MeshName: shop})
	wantAPIError(t, err, new(*types.ResourceInUseException), "ResourceInUseException")
	_, err = c.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: shop, MeshOwner: aws.String("000000000002")})
	wantAPIError(t, err, new(*types.ForbiddenException), "ForbiddenException")
	_, err = c.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: aws.String("no")})
	wantAPIError(t, err, new(*types.NotFoundException), "NotFoundException")
	token := aws.String("one-token")
	for _, path := range []string{"/a", "/a", "/b"} {
		_, err = c.CreateVirtualService(ctx, &appmesh.CreateVirtualServiceInput{
			MeshName: shop, ClientToken: token, VirtualServiceName: aws.String("x"), Spec: &types.VirtualServiceSpec{},
			Tags: []types.TagRef{{Key: aws.String("path"), Value: &path}},
		})
		if path == "/a" && err != nil {
			t.Errorf("the same request with the same token: %v", err)
		}
	}
	wantAPIError(t, err, new(*types.ConflictException), "ConflictException")
	// Names that a URL must escape.
	name := aws.String("a/b c:8@x+é%2F?#&;=")
	if _, err := c.CreateVirtualService(ctx, &appmesh.CreateVirtualServiceInput{MeshName: shop, VirtualServiceName: name, Spec: &types.VirtualServiceSpec{}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.DescribeVirtualService(ctx, &appmesh.DescribeVirtualServiceInput{MeshName: shop, VirtualServiceName: name})
	if err != nil || *got.VirtualService.VirtualServiceName != *name {
		t.Errorf("describing %q: %v", *name, err)
	}
	if _, err := c.ListTagsForResource(ctx, &appmesh.ListTagsForResourceInput{ResourceArn: got.VirtualService.Metadata.Arn}); err != nil {
		t.Error(err)
	}
}

// wantAPIError checks an error's type, code and fault, and that its request id came
// with it. target is a pointer to the type.
func wantAPIError(t *testing.T, err error, target any, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, target) || !errors.As(err, &api) {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	if api.ErrorCode() != code || api.ErrorMessage() == "" || api.ErrorFault() != smithy.FaultClient {
		t.Errorf("got %s %q %v, want %s", api.ErrorCode(), api.ErrorMessage(), api.ErrorFault(), code)
	}
	var withID interface{ ServiceRequestID() string }
	if !errors.As(err, &withID) || !uuidPattern.MatchString(withID.ServiceRequestID()) {
		t.Errorf("%s came without a request id", code)
	}
}

// TestSDKWrongSecret holds that a wrong secret is refused by its own code, and that
// an unknown path is unknown to everybody.
func TestSDKWrongSecret(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	forged := appmesh.New(c.Options(), func(o *appmesh.Options) {
		good := o.Credentials
		o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			creds, err := good.Retrieve(ctx)
			creds.SecretAccessKey += "x"
			return creds, err
		})
	})
	_, err := forged.ListMeshes(t.Context(), &appmesh.ListMeshesInput{})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("a wrong secret: %v", err)
	}
	for _, path := range []string{"/v20190125/mesh", "/"} {
		resp, err := (&http.Client{}).Get(*c.Options().BaseEndpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 || resp.Header.Get("x-amzn-ErrorType") != "UnknownOperationException" {
			t.Errorf("GET %s: %d %s", path, resp.StatusCode, resp.Header.Get("x-amzn-ErrorType"))
		}
	}
}
