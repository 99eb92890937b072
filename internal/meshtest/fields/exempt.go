package fields

// NoEffect are the fields that cannot change what an Envoy does, with the reason. Taking
// one out changes nothing, which is checked.
var NoEffect = map[string]string{
	"VirtualNode.listeners.healthCheck.port": "It must be the listener's own port or absent, so it says nothing that `portMapping.port` does not.",

	"VirtualGateway.listeners.healthCheck.port":               "It must be the listener's own port or absent, so it says nothing that `portMapping.port` does not.",
	"VirtualGateway.listeners.healthCheck.healthyThreshold":   callerChecks,
	"VirtualGateway.listeners.healthCheck.intervalMillis":     callerChecks,
	"VirtualGateway.listeners.healthCheck.timeoutMillis":      callerChecks,
	"VirtualGateway.listeners.healthCheck.unhealthyThreshold": callerChecks,

	"Policy.notAfter":  inForce,
	"Policy.notBefore": inForce,

	"Policy.action.quota.per":      counted,
	"Policy.action.quota.requests": counted,
}

// NoBehaviour are the fields whose effect no running Envoy can show, with the reason.
// A golden case shows what is made of them.
var NoBehaviour = map[string]string{}

const counted = "Proxies are not told how much a quota allows, but their shares: `TestQuota` in `test/envoy`."

const inForce = "What is not in force is in no view that is translated: `TestFaultsInTime` in `test/envoy`."

const callerChecks = "Nobody in the mesh checks a gateway: it answers at the check's path, and whoever stands before it has its own intervals and thresholds."
