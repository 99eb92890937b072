package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/registry"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
)

// restAPI returns the handler of all APIs. What the discovery service knows of proxies
// it gives in its own types: neither room imports the other.
func (s *Server) restAPI() http.Handler {
	return restapi.New(restapi.Config{
		Store: s.store, Access: s.access, Verify: s.access.Verify, Audit: s.audit, Logger: s.cfg.Log,
		Targets: []restapi.Target{{
			Prefix: registry.TargetPrefix, Service: registry.SigningName, Source: audit.CloudMap,
			ReadOnly: registry.ReadOnly, Call: s.registry.Call, Refusal: registry.Refusal,
		}},
		Proxies: func(ctx context.Context, l restapi.Look) restapi.Known[restapi.ProxyStatus] {
			return known(ctx, s, askProxies, s.ownProxies, l)
		},
		Problems: func(ctx context.Context, l restapi.Look) restapi.Known[restapi.Problem] {
			return known(ctx, s, askProblems, s.ownProblems, l)
		},
		Warnings:      s.warnings,
		QuotaUsage:    s.quotaUsage,
		Configuration: s.configuration, Events: s.events, Propagation: s.propagation,
		CA: s.ca, BundleStreams: s.bundles,
	})
}

// ownConfiguration returns what the proxies are sent that this replica knows, with Envoy's
// messages as JSON.
func (s *Server) ownConfiguration(id mesh.ID, connection string) (restapi.Configuration, bool, error) {
	known, found := s.xds.Configuration(id, connection)
	if !found {
		return restapi.Configuration{}, false, nil
	}
	out := restapi.Configuration{ARN: known.ARN, Placement: known.Profile.String(), Connection: known.Connection}
	for _, r := range known.Resources {
		content, err := messageJSON(r.Message)
		if err != nil {
			return out, false, fmt.Errorf("writing %s %s: %w", r.Type, r.Name, err)
		}
		out.Resources = append(out.Resources, restapi.Resource{Type: r.Type.String(), Name: r.Name, Content: content})
	}
	for _, e := range known.Explanation {
		line := restapi.Explanation{Depth: e.Depth, Text: e.Text}
		if e.Object.Kind != 0 {
			line.Object = e.Object.String()
		}
		out.Explanation = append(out.Explanation, line)
	}
	for _, p := range known.Problems {
		out.Problems = append(out.Problems, restapi.Problem(p))
	}
	return out, true, nil
}

// messageJSON writes an Envoy message always in the same bytes, which protojson does not.
func messageJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, raw)
	return b.Bytes(), err
}
