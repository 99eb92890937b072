package envoy

import (
	"fmt"
	"strings"
	"unicode"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

type accessLogs = []*accesslogv3.AccessLog

// accessLogs returns the access logs that a node asks for: none or one. A format that
// Envoy would refuse gives way to Envoy's own, so that there is a log.
func (t *translator) accessLogs(l *mesh.Logging) accessLogs {
	if l == nil || l.AccessLog == nil || l.AccessLog.File == nil {
		return nil
	}
	const field = "logging.accessLog.file"
	file := l.AccessLog.File
	if t.lacks(fileLogs) {
		t.problem(t.self(), field, "there is no access log: the proxy's Envoy was built without %s", fileLogger)
		return nil
	}
	if strings.ContainsFunc(file.Path, unicode.IsControl) {
		t.problem(t.self(), field+".path", "%q is not a path: there is no access log", file.Path)
		return nil
	}
	config := &filev3.FileAccessLog{Path: file.Path}
	if format := t.logFormat(file.Format, field+".format"); format != nil {
		config.AccessLogFormat = &filev3.FileAccessLog_LogFormat{LogFormat: format}
	}
	packed := t.packed(config, t.self(), field, "the access log")
	if packed == nil {
		return nil
	}
	return accessLogs{{
		Name:       fileLogger,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed},
	}}
}

// logFormat returns the format of an access log, nil for Envoy's own.
func (t *translator) logFormat(f *mesh.LoggingFormat, field string) *corev3.SubstitutionFormatString {
	switch {
	case f == nil:
	case f.Text != nil:
		if err := checkFormat(*f.Text); err != nil {
			t.problem(t.self(), field+".text", "%v: Envoy's own format is used", err)
			return nil
		}
		return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: *f.Text}},
		}}
	case len(f.Json) > 0:
		return t.jsonFormat(f.Json, field+".json")
	default:
		t.problem(t.self(), field+".json", "the format is empty: Envoy's own format is used")
	}
	return nil
}

// jsonFormat returns the format of an access log of JSON objects. Envoy writes their
// members in the order of their names.
func (t *translator) jsonFormat(pairs []mesh.JsonFormatRef, field string) *corev3.SubstitutionFormatString {
	members := make(map[string]*structpb.Value, len(pairs))
	for i, p := range pairs {
		if err := checkFormat(p.Value); err != nil {
			t.problem(t.self(), fmt.Sprintf("%s[%d].value", field, i), "%v: the key is left out", err)
			continue
		}
		if _, twice := members[p.Key]; twice {
			t.problem(t.self(), fmt.Sprintf("%s[%d].key", field, i), "key %q is listed twice: the last one holds", p.Key)
		}
		members[p.Key] = structpb.NewStringValue(p.Value)
	}
	if len(members) == 0 {
		return nil
	}
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{
		JsonFormat: &structpb.Struct{Fields: members},
	}}
}
