// Package status is the agent's own server: how Envoy is and how it stands with the control
// plane, and the few pages of Envoy's admin interface that others may use. Its paths, its
// answers and its limits are those of App Mesh's agent, with more beside them. It knows of
// the agent only what its Config is given, and may import the standard library only.
package status

import (
	"fmt"
	"strings"
	"time"
)

// Values of the members of a Report, as App Mesh's agent spells them.
const (
	Healthy      = "HEALTHY"
	Unhealthy    = "UNHEALTHY"
	Connected    = "CONNECTED"
	NotConnected = "NOT_CONNECTED"

	// StateLive is Envoy's own word; the other states are Envoy's too, but for
	// StateUnreachable.
	StateLive        = "LIVE"
	StateUnreachable = "UNREACHABLE"

	Initialized    = "INITIALIZED"
	NotInitialized = "NOT_INITIALIZED"
	UpdateOK       = "UPDATE_SUCCESSFUL"
	UpdateFailed   = "UPDATE_FAILED"
)

// Phases of an agent.
const (
	PhaseStarting   = "starting"   // Envoy runs and has not served yet
	PhaseServing    = "serving"    // Envoy serves
	PhaseRestarting = "restarting" // Envoy has ended by itself and is started again
	PhaseDraining   = "draining"   // told to end; Envoy drains
	PhaseEnding     = "ending"     // Envoy or the application was told to end
)

// Report is how Envoy is. The members of App Mesh's agent have its names and forms:
// numbers are text there.
type Report struct {
	HealthStatus      string `json:"healthStatus"`
	AgentUptime       string `json:"agentUptime"` // whole seconds and "s"
	EnvoyPid          string `json:"envoyPid"`    // "-1" while there is none
	EnvoyState        string `json:"envoyState"`
	EnvoyRestartCount string `json:"envoyRestartCount"`
	// The next two are left out where the agent does not know the control plane
	// (ENVOY_CONFIG_FILE), the time also while Envoy is connected.
	ConnectionStatus string     `json:"managementServerConnectionStatus,omitempty"`
	Disconnected     *time.Time `json:"managementServerDisconnectedTimestamp,omitempty"`
	ReadinessState   string     `json:"envoyReadinessState"`
	// InitialConfig is left out until the first configuration has come.
	InitialConfig string `json:"initialConfigUpdateStatus,omitempty"`

	More More `json:"fairlead"`
}

// More is what App Mesh's agent did not tell.
type More struct {
	Version  string `json:"agentVersion,omitempty"`
	Resource string `json:"resource,omitempty"`
	Phase    string `json:"phase"`
	// Why says in words why Envoy is not healthy or not connected; "" when all is well.
	Why          string       `json:"why,omitempty"`
	ControlPlane string       `json:"controlPlane,omitempty"` // host:port
	Credentials  *Credentials `json:"credentials,omitempty"`
	Certificate  *Certificate `json:"certificate,omitempty"` // of the workload, once Envoy has asked for it
	LastRefusal  *Refusal     `json:"lastRefusal,omitempty"`
	LastEnd      *End         `json:"lastEnvoyEnd,omitempty"`
}

// Credentials says where the access key comes from; the key itself is not told.
type Credentials struct {
	// Source is "environment", "file" or "relay", which signs, or what temporary ones were
	// had in exchange for: "web-identity", "certificate" or "aws".
	Source   string     `json:"source"`
	File     string     `json:"file,omitempty"`
	Profile  string     `json:"profile,omitempty"`
	Identity string     `json:"identity,omitempty"` // ARN of the session, of temporary ones
	Expires  *time.Time `json:"expires,omitempty"`  // of temporary ones
	Problem  string     `json:"problem,omitempty"`  // in words; "" for none
}

// Certificate is how it stands with the workload's certificate.
type Certificate struct {
	NotAfter   time.Time `json:"notAfter"`          // zero for none
	RenewAfter time.Time `json:"renewAfter"`        // of the same
	Issued     uint64    `json:"issued"`            // how many since the agent began
	Problem    string    `json:"problem,omitempty"` // why there is no new one, in words
}

// Refusal is the last closing of Envoy's stream that was not a matter of course.
type Refusal struct {
	Time    time.Time `json:"time"`
	Code    int       `json:"code"` // of gRPC
	Message string    `json:"message"`
}

// End is how the last Envoy ended.
type End struct {
	Time time.Time `json:"time"`
	Code int       `json:"code"` // or 128 and the signal's number
}

// Text says the same in words, a line for each thing.
func (r Report) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-15s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("health", "%s, %s", strings.ToLower(r.HealthStatus), r.More.Phase)
	if r.More.Why != "" {
		line("why", "%s", r.More.Why)
	}
	if r.More.Resource != "" {
		line("resource", "%s", r.More.Resource)
	}
	process := "process " + r.EnvoyPid
	if r.EnvoyPid == "-1" {
		process = "no process"
	}
	line("Envoy", "%s, %s, %s", process, strings.ToLower(r.EnvoyState), restarted(r.EnvoyRestartCount))
	if e := r.More.LastEnd; e != nil {
		line("", "the last one ended with code %d at %s", e.Code, e.Time.Format(time.RFC3339))
	}
	if r.ConnectionStatus != "" {
		line("control plane", "%s, %s%s", r.More.ControlPlane, connection(r.ConnectionStatus), since(r.Disconnected))
	}
	if f := r.More.LastRefusal; f != nil {
		line("last refusal", "code %d at %s: %s", f.Code, f.Time.Format(time.RFC3339), f.Message)
	}
	if c := r.More.Credentials; c != nil {
		line("access key", "%s", c.text())
	}
	if c := r.More.Certificate; c != nil {
		line("certificate", "until %s%s", c.NotAfter.Format(time.RFC3339), strings.TrimSuffix(", but no new one: "+c.Problem, ", but no new one: "))
	}
	line("agent", "up %s%s", r.AgentUptime, strings.TrimSuffix(", version "+r.More.Version, ", version "))
	return b.String()
}

func restarted(count string) string {
	switch count {
	case "0":
		return "never restarted"
	case "1":
		return "restarted once"
	}
	return "restarted " + count + " times"
}

func connection(status string) string {
	if status == Connected {
		return "connected"
	}
	return "not connected"
}

func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " since " + t.Format(time.RFC3339)
}

func (c Credentials) text() string {
	out := "from the environment"
	switch {
	case c.File != "":
		out = fmt.Sprintf("from %s, profile %s", c.File, c.Profile)
	case c.Source == "relay":
		out = "those of the relay"
	case c.Identity != "":
		out = fmt.Sprintf("of %s, by %s", c.Identity, c.Source)
	case c.Source != "environment":
		out = "by " + c.Source
	}
	if c.Expires != nil {
		out += ", expires " + c.Expires.Format(time.RFC3339)
	}
	if c.Problem != "" {
		out += ": " + c.Problem
	}
	return out
}
