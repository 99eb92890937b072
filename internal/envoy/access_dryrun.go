package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What a dry run would refuse is counted by RBAC, which also notes it on the request. A log in
// every connection manager writes out the requests that have such a note, so that a dry run
// that begins or ends is no change of a listener.

// requestsTried and connectionsTried log what a dry run would refuse, as JSON, a line each, to
// Envoy's standard output. The query of a path is left out: it may have secrets.
var (
	requestsTried    = accessLogs{tried(requestAccessExtension)}
	connectionsTried = accessLogs{tried(connectionAccessExtension)}
)

// tried returns the log of what a filter's dry run would refuse.
func tried(filter string) *accesslogv3.AccessLog {
	members := map[string]string{
		"time": "%START_TIME%", "dryRun": "access", "policy": "%DYNAMIC_METADATA(" + filter + ":shadow_effective_policy_id)%",
		"address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "client": "%DOWNSTREAM_PEER_URI_SAN%",
	}
	if filter == requestAccessExtension {
		members["method"], members["authority"], members["path"] = "%REQ(:METHOD)%", "%REQ(:AUTHORITY)%", "%PATH(NQ)%"
	} else {
		members["port"] = "%DOWNSTREAM_LOCAL_PORT%"
	}
	format := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for name, value := range members {
		format.Fields[name] = structpb.NewStringValue(value)
	}
	return &accesslogv3.AccessLog{
		Name: stdoutLogger,
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
			Matcher: &matcherv3.MetadataMatcher{
				Filter: filter,
				Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: "shadow_engine_result"}}},
				Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
					MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "denied"},
				}}},
			},
			MatchIfKeyNotFound: wrapperspb.Bool(false),
		}}},
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: mustAny(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: format},
			}},
		})},
	}
}
