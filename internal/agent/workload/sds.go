package workload

import (
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const typeSecret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// StreamSecrets serves an Envoy the secrets that it asks for, and again when they change. A
// secret that is not there yet is waited for, for as long as it takes.
func (w *Workload) StreamSecrets(g secretv3.SecretDiscoveryService_StreamSecretsServer) error {
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
