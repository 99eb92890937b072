package agent

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
)

const (
	apiVariable = "FAIRLEAD_API_ENDPOINT"
	apiForm     = "https://HOST:PORT (http:// to a loopback address), for example https://fairlead.example.com:9080"
)

// readAPI reads where the control plane's API is; zero where nobody says so.
func readAPI(e *env) control.API {
	v := e.text(apiVariable, "")
	if v == "" {
		return control.API{}
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || !validPort(u.Port()) {
		e.refuse("%s is not such a URL, allowed is %s", apiVariable, apiForm) // it may hold a password
		return control.API{}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) && !strings.EqualFold(e.text("FAIRLEAD_XDS_PLAINTEXT", ""), "insecure") {
		e.refuse(`%s is %q, which is not this host, allowed without TLS are only loopback addresses; set FAIRLEAD_XDS_PLAINTEXT to "insecure" if connections are secured by other means`, apiVariable, v)
	}
	return control.API{
		Endpoint: u.Scheme + "://" + u.Host,
		CAFile:   e.text("FAIRLEAD_API_CA_FILE", e.text("FAIRLEAD_XDS_CA_FILE", "")),
	}
}

// needAPI refuses that nobody says where the API is, which something needs.
func needAPI(e *env, api control.API, what string) {
	if api.Endpoint == "" && e.text(apiVariable, "") == "" {
		e.refuse("%s is not set, and %s is, which needs it; allowed is %s", apiVariable, what, apiForm)
	}
}

// validPort says whether a URL's port is one; it may have none.
func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n >= 1 && n <= 65535
}
