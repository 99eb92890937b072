package intercept

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// cniConfig is the configuration on standard input, as far as it is ours. Names are read
// in any case of letters, so those of ECS's proxyConfiguration are too.
type cniConfig struct {
	Version    string          `json:"cniVersion"`
	PrevResult json.RawMessage `json:"prevResult"`

	IgnoredUID         word  `json:"ignoredUID"`
	IgnoredGID         word  `json:"ignoredGID"`
	ProxyIngressPort   word  `json:"proxyIngressPort"`
	ProxyEgressPort    word  `json:"proxyEgressPort"`
	AppPorts           words `json:"appPorts"`
	EgressIgnoredPorts words `json:"egressIgnoredPorts"`
	EgressIgnoredIPs   words `json:"egressIgnoredIPs"`
	EnableIPv6         bool  `json:"enableIPv6"`

	// Ours beside App Mesh's.
	IgnoredUIDs       words `json:"ignoredUIDs"`
	IgnoredGIDs       words `json:"ignoredGIDs"`
	IngressIgnoredIPs words `json:"ingressIgnoredIPs"`
	DNSPort           word  `json:"dnsPort"`
	DNSServers        words `json:"dnsServers"`
	WhileAway         word  `json:"whileAway"`
	Backend           word  `json:"backend"`
}

// word is a text, or a number, as which people write ports.
type word string

// UnmarshalJSON reads a text or a number.
func (w *word) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '"' {
		var n json.Number
		err := json.Unmarshal(text, &n)
		*w = word(n)
		return err
	}
	return json.Unmarshal(text, (*string)(w))
}

// words is a list, or as in ECS's properties a text with commas.
type words []word

// UnmarshalJSON reads a list or a text.
func (w *words) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '[' {
		var one word
		err := json.Unmarshal(text, &one)
		*w = nil
		if one != "" {
			*w = words{one}
		}
		return err
	}
	return json.Unmarshal(text, (*[]word)(w))
}

func (w words) text() string {
	parts := make([]string, len(w))
	for i, x := range w {
		parts[i] = string(x)
	}
	return strings.Join(parts, ",")
}

func decodeCNI(text []byte) (cniConfig, error) {
	var conf cniConfig
	if err := json.Unmarshal(text, &conf); err != nil {
		return cniConfig{Version: conf.Version}, cniFail(codeDecoding, "decoding the configuration: %v", err)
	}
	return conf, nil
}

// version returns the configuration's version; one that names none gets the current.
func (c cniConfig) version() string { return cmp.Or(c.Version, cniVersion) }

// settings returns what the configuration asks for. Errors name its properties.
func (c cniConfig) settings() (rules.Settings, error) {
	switch {
	case c.IgnoredUID == "" && c.IgnoredGID == "":
		return rules.Settings{}, cniFail(codeConfig, "neither ignoredUID nor ignoredGID is set, by which the proxy is told from the application; set one of them")
	case c.ProxyEgressPort == "":
		return rules.Settings{}, cniFail(codeConfig, "proxyEgressPort is not set, allowed are ports from 1 to 65535")
	case c.ProxyIngressPort == "" && len(c.AppPorts) > 0:
		return rules.Settings{}, cniFail(codeConfig, "appPorts is set and proxyIngressPort is not; set both or neither")
	case c.ProxyIngressPort != "" && len(c.AppPorts) == 0:
		return rules.Settings{}, cniFail(codeConfig, "proxyIngressPort is set and appPorts is not; set both or neither")
	}
	values, names := c.values()
	s, err := rules.ReadNamed(func(name string) (string, bool) { v, ok := values[name]; return v, ok }, names)
	if err != nil {
		return s, cniFail(codeConfig, "%v", err)
	}
	return s, nil
}

// values returns what the variables would hold that mean the same, and the names of the
// properties by theirs.
func (c cniConfig) values() (values, names map[string]string) {
	values, names = map[string]string{}, map[string]string{}
	set := func(variable, property, value string) { values[variable], names[variable] = value, property }
	set("APPMESH_IGNORE_UID", "ignoredUID", string(c.IgnoredUID))
	set("APPMESH_IGNORE_GID", "ignoredGID", string(c.IgnoredGID))
	set("APPMESH_ENVOY_INGRESS_PORT", "proxyIngressPort", string(c.ProxyIngressPort))
	set("APPMESH_ENVOY_EGRESS_PORT", "proxyEgressPort", string(c.ProxyEgressPort))
	set("APPMESH_APP_PORTS", "appPorts", c.AppPorts.text())
	set("APPMESH_EGRESS_IGNORED_PORTS", "egressIgnoredPorts", c.EgressIgnoredPorts.text())
	// No property means no address, as with App Mesh's plugin: no default here.
	ignored := c.EgressIgnoredIPs.text()
	if strings.Trim(ignored, ", ") == "" {
		ignored = "none"
	}
	set("APPMESH_EGRESS_IGNORED_IP", "egressIgnoredIPs", ignored)
	ipv6 := "0"
	if c.EnableIPv6 {
		ipv6 = "1"
	}
	set("APPMESH_ENABLE_IPV6", "enableIPv6", ipv6)
	set("FAIRLEAD_IGNORE_UIDS", "ignoredUIDs", c.IgnoredUIDs.text())
	set("FAIRLEAD_IGNORE_GIDS", "ignoredGIDs", c.IgnoredGIDs.text())
	set("FAIRLEAD_INGRESS_IGNORED_IPS", "ingressIgnoredIPs", c.IngressIgnoredIPs.text())
	set("FAIRLEAD_DNS_PORT", "dnsPort", string(c.DNSPort))
	set("FAIRLEAD_DNS_SERVERS", "dnsServers", c.DNSServers.text())
	set(rules.WhileAwayName, "whileAway", string(c.WhileAway))
	set("FAIRLEAD_INTERCEPT_BACKEND", "backend", string(c.Backend))
	return values, names
}

// result returns what the plugins before have made, as it came, with its version where it
// has none; an empty result where there were no plugins before.
func (c cniConfig) result() ([]byte, error) {
	var parts map[string]json.RawMessage
	if len(c.PrevResult) > 0 {
		if err := json.Unmarshal(c.PrevResult, &parts); err != nil {
			return nil, cniFail(codeDecoding, "decoding prevResult: %v", err)
		}
	}
	if _, ok := parts["cniVersion"]; ok {
		return append(bytes.TrimSpace(c.PrevResult), '\n'), nil
	}
	if parts == nil {
		parts = map[string]json.RawMessage{}
	}
	parts["cniVersion"] = json.RawMessage(strconv.Quote(c.version()))
	text, err := json.Marshal(parts)
	return append(text, '\n'), err
}
