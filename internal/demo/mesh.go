package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// Names in the demo's mesh.
const (
	meshName    = "demo"
	serviceName = "colour"
	routerName  = "colour-router"
	routeName   = "colour-route"
	frontNode   = "front"
	blueNode    = "colour-blue"
	greenNode   = "colour-green"
	region      = "us-east-1"
)

// definer defines the mesh through the REST API, with the AWS SDK as it is.
type definer struct {
	api  *appmesh.Client
	own  *client.Client // of what is Fairlead's own
	port int32          // of all listeners
}

// newDefiner returns a definer that signs with the key in a credentials file.
func newDefiner(ctx context.Context, endpoint, credentials string, port int) (*definer, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(region),
		config.WithBaseEndpoint(endpoint),
		// A named profile goes before keys in the environment, which are AWS's.
		config.WithSharedConfigProfile("default"),
		config.WithSharedCredentialsFiles([]string{credentials}),
		config.WithSharedConfigFiles([]string{credentials}),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(10*time.Second).WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })),
		// One call is one request, so that the times are honest.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	)
	if err != nil {
		return nil, fmt.Errorf("configuring the AWS SDK: %w", err)
	}
	own, err := client.New(client.Config{Endpoint: endpoint, Region: region, Credentials: cfg.Credentials, MaxAttempts: 1})
	if err != nil {
		return nil, err
	}
	return &definer{api: appmesh.NewFromConfig(cfg), own: own, port: int32(port)}, nil
}

// define makes the whole mesh and returns the ARN of each virtual node by its name.
func (d *definer) define(ctx context.Context, p *plan, w weights) (arns map[string]string, err error) {
	if _, err := d.api.CreateMesh(ctx, &appmesh.CreateMeshInput{MeshName: aws.String(meshName)}); err != nil {
		return nil, fmt.Errorf("creating the mesh: %w", err)
	}
	arns = map[string]string{}
	for _, n := range []struct {
		name     string
		at       netip.Addr
		backends []types.Backend
	}{
		{frontNode, p.found(p.front), []types.Backend{&types.BackendMemberVirtualService{
			Value: types.VirtualServiceBackend{VirtualServiceName: aws.String(serviceName)},
		}}},
		{blueNode, p.found(p.blue), nil},
		{greenNode, p.found(p.green), nil},
	} {
		out, err := d.api.CreateVirtualNode(ctx, &appmesh.CreateVirtualNodeInput{
			MeshName: aws.String(meshName), VirtualNodeName: aws.String(n.name), Spec: d.nodeSpec(n.at, n.backends),
		})
		if err != nil {
			return nil, fmt.Errorf("creating virtual node %s: %w", n.name, err)
		}
		arns[n.name] = aws.ToString(out.VirtualNode.Metadata.Arn)
	}
	return arns, d.defineColour(ctx, w)
}

// defineColour makes the virtual service that front calls, and what leads on from it.
func (d *definer) defineColour(ctx context.Context, w weights) error {
	_, err := d.api.CreateVirtualRouter(ctx, &appmesh.CreateVirtualRouterInput{
		MeshName: aws.String(meshName), VirtualRouterName: aws.String(routerName),
		Spec: &types.VirtualRouterSpec{Listeners: []types.VirtualRouterListener{{PortMapping: d.mapping()}}},
	})
	if err != nil {
		return fmt.Errorf("creating the virtual router: %w", err)
	}
	_, err = d.api.CreateRoute(ctx, &appmesh.CreateRouteInput{
		MeshName: aws.String(meshName), VirtualRouterName: aws.String(routerName), RouteName: aws.String(routeName),
		Spec: routeSpec(target(blueNode, w.blue), target(greenNode, w.green)),
	})
	if err != nil {
		return fmt.Errorf("creating the route: %w", err)
	}
	_, err = d.api.CreateVirtualService(ctx, &appmesh.CreateVirtualServiceInput{
		MeshName: aws.String(meshName), VirtualServiceName: aws.String(serviceName),
		Spec: &types.VirtualServiceSpec{Provider: &types.VirtualServiceProviderMemberVirtualRouter{
			Value: types.VirtualRouterServiceProvider{VirtualRouterName: aws.String(routerName)},
		}},
	})
	if err != nil {
		return fmt.Errorf("creating the virtual service: %w", err)
	}
	return nil
}

// nodeSpec is a virtual node whose Envoy others find at a literal address.
func (d *definer) nodeSpec(at netip.Addr, backends []types.Backend) *types.VirtualNodeSpec {
	return &types.VirtualNodeSpec{
		Listeners: []types.Listener{{PortMapping: d.mapping()}},
		Backends:  backends,
		ServiceDiscovery: &types.ServiceDiscoveryMemberDns{
			Value: types.DnsServiceDiscovery{Hostname: aws.String(at.String())},
		},
	}
}

func (d *definer) mapping() *types.PortMapping {
	return &types.PortMapping{Port: aws.Int32(d.port), Protocol: types.PortProtocolHttp}
}

func target(node string, weight int) types.WeightedTarget {
	return types.WeightedTarget{VirtualNode: aws.String(node), Weight: int32(weight)}
}

// routeSpec is a route for all paths. Its retry policy takes the place of App Mesh's
// default one, and retries nothing: a retry would hide a failure.
func routeSpec(targets ...types.WeightedTarget) *types.RouteSpec {
	return &types.RouteSpec{HttpRoute: &types.HttpRoute{
		Match:  &types.HttpRouteMatch{Prefix: aws.String("/")},
		Action: &types.HttpRouteAction{WeightedTargets: targets},
		RetryPolicy: &types.HttpRetryPolicy{
			MaxRetries:      aws.Int64(0),
			PerRetryTimeout: &types.Duration{Unit: types.DurationUnitS, Value: aws.Int64(15)},
			HttpRetryEvents: []string{"gateway-error"},
		},
	}}
}

// shift gives the route new weights.
func (d *definer) shift(ctx context.Context, w weights) error {
	return d.update(ctx, target(blueNode, w.blue), target(greenNode, w.green))
}

// update gives the route new targets.
func (d *definer) update(ctx context.Context, targets ...types.WeightedTarget) error {
	_, err := d.api.UpdateRoute(ctx, &appmesh.UpdateRouteInput{
		MeshName: aws.String(meshName), VirtualRouterName: aws.String(routerName), RouteName: aws.String(routeName),
		Spec: routeSpec(targets...),
	})
	return err
}

// retry gives the route retries on failures of a server, with the weights that are in force.
func (d *definer) retry(ctx context.Context, times int64, w weights) error {
	spec := routeSpec(target(blueNode, w.blue), target(greenNode, w.green))
	r := spec.HttpRoute.RetryPolicy
	r.MaxRetries, r.HttpRetryEvents = aws.Int64(times), []string{"server-error"}
	_, err := d.api.UpdateRoute(ctx, &appmesh.UpdateRouteInput{
		MeshName: aws.String(meshName), VirtualRouterName: aws.String(routerName), RouteName: aws.String(routeName), Spec: spec,
	})
	return err
}

// inventory is every object of the mesh as the API describes it, with versions and
// times: two that are equal have no difference between them.
type inventory struct {
	mesh    *types.MeshData
	nodes   []*types.VirtualNodeData
	router  *types.VirtualRouterData
	route   *types.RouteData
	service *types.VirtualServiceData
}

// objects is how many objects an inventory has.
const objects = 7

func (d *definer) inventory(ctx context.Context) (*inventory, error) {
	var out inventory
	name := aws.String(meshName)
	m, err := d.api.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: name})
	if err != nil {
		return nil, fmt.Errorf("describing the mesh: %w", err)
	}
	for _, node := range []string{frontNode, blueNode, greenNode} {
		n, err := d.api.DescribeVirtualNode(ctx, &appmesh.DescribeVirtualNodeInput{MeshName: name, VirtualNodeName: aws.String(node)})
		if err != nil {
			return nil, fmt.Errorf("describing virtual node %s: %w", node, err)
		}
		out.nodes = append(out.nodes, n.VirtualNode)
	}
	r, err := d.api.DescribeVirtualRouter(ctx, &appmesh.DescribeVirtualRouterInput{MeshName: name, VirtualRouterName: aws.String(routerName)})
	if err != nil {
		return nil, fmt.Errorf("describing the virtual router: %w", err)
	}
	route, err := d.api.DescribeRoute(ctx, &appmesh.DescribeRouteInput{
		MeshName: name, VirtualRouterName: aws.String(routerName), RouteName: aws.String(routeName),
	})
	if err != nil {
		return nil, fmt.Errorf("describing the route: %w", err)
	}
	s, err := d.api.DescribeVirtualService(ctx, &appmesh.DescribeVirtualServiceInput{MeshName: name, VirtualServiceName: aws.String(serviceName)})
	if err != nil {
		return nil, fmt.Errorf("describing the virtual service: %w", err)
	}
	out.mesh, out.router, out.route, out.service = m.Mesh, r.VirtualRouter, route.Route, s.VirtualService
	return &out, nil
}

// refusal is the API's answer to a call that it refused.
type refusal struct {
	status        int
	code, message string
}

// readRefusal returns what the API answered; false where err is no answer of its.
func readRefusal(err error) (refusal, bool) {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return refusal{}, false
	}
	out := refusal{code: answer.ErrorCode(), message: answer.ErrorMessage()}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		out.status = response.HTTPStatusCode()
	}
	return out, true
}
