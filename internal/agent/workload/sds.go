package workload

import (
	"context"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

const typeSecret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// The Secret Discovery Service as far as it is used: the package that is generated of it
// registers all annotations of Google's APIs when a program starts.
const secretService = "envoy.service.secret.v3.SecretDiscoveryService"

var streamSecrets = grpc.StreamDesc{StreamName: "StreamSecrets", ServerStreams: true, ClientStreams: true}

type (
	secretServer = grpc.GenericServerStream[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	secretClient = grpc.GenericClientStream[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
)

// register has a server serve a workload's secrets.
func (w *Workload) register(s *grpc.Server) {
	stream := streamSecrets
	stream.Handler = func(_ any, g grpc.ServerStream) error { return w.serveSecrets(&secretServer{ServerStream: g}) }
	s.RegisterService(&grpc.ServiceDesc{ServiceName: secretService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{stream}}, w)
}

// openSecrets opens a stream of the control plane's service.
func (w *Workload) openSecrets(ctx context.Context) (*secretClient, error) {
	g, err := w.cfg.Control.NewStream(ctx, &streamSecrets, "/"+secretService+"/"+streamSecrets.StreamName)
	return &secretClient{ClientStream: g}, err
}

// serveSecrets serves an Envoy the secrets that it asks for, and again when they change. A
// secret that is not there yet is waited for, for as long as it takes.
func (w *Workload) serveSecrets(g *secretServer) error {
	requests, failed := make(chan *discoveryv3.DiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			req, err := g.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- req:
			case <-g.Context().Done():
				return
			}
		}
	}()
	s := &secretStream{w: w, send: g.Send, sent: map[string]string{}}
	for {
		changed, err := s.serve()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case req := <-requests:
			s.take(req)
		case err := <-failed:
			return err
		}
	}
}

// secretStream is one stream of Envoy.
type secretStream struct {
	w     *Workload
	send  func(*discoveryv3.DiscoveryResponse) error
	names []string
	sent  map[string]string // versions by name
	nonce uint64
}

func (s *secretStream) take(req *discoveryv3.DiscoveryRequest) {
	if detail := req.GetErrorDetail(); detail != nil {
		s.w.cfg.Logger.Warn("Envoy refused a certificate or trust bundle", "names", strings.Join(s.names, ", "), "detail", detail.GetMessage())
	}
	s.names = req.GetResourceNames()
	for _, name := range s.names {
		s.w.want(name)
	}
}

// serve sends the secrets that Envoy asks for if one of them has changed, and returns what
// to wait for.
func (s *secretStream) serve() (<-chan struct{}, error) {
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: typeSecret}
	versions := map[string]string{}
	_, changed := s.w.get("")
	due := false
	for _, name := range s.names {
		now, _ := s.w.get(name)
		if now == nil {
			continue
		}
		body, err := anypb.New(now.body)
		if err != nil {
			return nil, err
		}
		due = due || s.sent[name] != now.version
		versions[name] = now.version
		resp.Resources = append(resp.Resources, body)
	}
	if !due {
		return changed, nil
	}
	s.sent = versions
	s.nonce++
	resp.Nonce = strconv.FormatUint(s.nonce, 10)
	resp.VersionInfo = resp.GetNonce()
	return changed, s.send(resp)
}
