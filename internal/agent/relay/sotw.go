package relay

import (
	"maps"
	"slices"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// stateOfTheWorld tells the control plane, which sees an incremental stream, that the Envoy
// behind it is told the state of the world: some resources are only for incremental ones.
const stateOfTheWorld = "fairlead.state-of-the-world"

// adapter has an Envoy that is told the state of the world speak delta xDS.
type adapter struct {
	g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer

	mu    sync.Mutex // requests and responses come from two goroutines
	types map[string]*world
}

// world is the state of one type.
type world struct {
	names   map[string]bool
	current map[string]*resource            // of types that are listed whole
	before  map[string]map[string]*resource // current before a response, by the nonce of it
}

func newAdapter(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) *adapter {
	return &adapter{g: g, types: map[string]*world{}}
}

// recv reads a request: the names that are new in it are subscribed to, those that are
// gone unsubscribed.
func (a *adapter) recv() (*request, error) {
	in, err := a.g.Recv()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.types[in.GetTypeUrl()]
	if w == nil {
		w = &world{names: map[string]bool{}, current: map[string]*resource{}, before: map[string]map[string]*resource{}}
		a.types[in.GetTypeUrl()] = w
	}
	if node := in.GetNode(); node != nil {
		node.ClientFeatures = append(node.GetClientFeatures(), stateOfTheWorld)
	}
	out := &request{Node: in.GetNode(), TypeUrl: in.GetTypeUrl(), ResponseNonce: in.GetResponseNonce(), ErrorDetail: in.GetErrorDetail()}
	wanted := make(map[string]bool, len(in.GetResourceNames()))
	for _, name := range in.GetResourceNames() {
		if wanted[name] = true; !w.names[name] {
			out.ResourceNamesSubscribe = append(out.ResourceNamesSubscribe, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.names)) {
		if !wanted[name] {
			out.ResourceNamesUnsubscribe = append(out.ResourceNamesUnsubscribe, name)
		}
	}
	w.names = wanted
	if before, ok := w.before[in.GetResponseNonce()]; ok {
		delete(w.before, in.GetResponseNonce())
		if in.GetErrorDetail() != nil {
			w.current = before
		}
	}
	return out, nil
}

// send sends all there is of a type that is listed whole, and of others what is new.
func (a *adapter) send(resp *response) error {
	a.mu.Lock()
	out := &discoveryv3.DiscoveryResponse{TypeUrl: resp.GetTypeUrl(), Nonce: resp.GetNonce(), VersionInfo: resp.GetNonce()}
	all := resp.GetResources()
	if w := a.types[resp.GetTypeUrl()]; w != nil && listedWhole(resp.GetTypeUrl()) {
		w.before[resp.GetNonce()] = w.current
		w.current = maps.Clone(w.current)
		for _, name := range resp.GetRemovedResources() {
			delete(w.current, name)
		}
		for _, r := range resp.GetResources() {
			w.current[r.GetName()] = r
		}
		all = slices.Collect(maps.Values(w.current))
		sortResources(all)
	}
	a.mu.Unlock()
	out.Resources = make([]*anypb.Any, len(all))
	for i, r := range all {
		out.Resources[i] = r.GetResource()
	}
	return a.g.Send(out)
}
