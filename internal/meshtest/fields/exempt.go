package fields

// NoEffect are the fields that cannot change what an Envoy does, with the reason. Taking
// one out changes nothing, which is checked.
var NoEffect = map[string]string{
	"VirtualNode.listeners.healthCheck.port": "It must be the listener's own port or absent, so it says nothing that `portMapping.port` does not.",

	"VirtualNode.listeners.tls.certificate.acm.certificateArn":                                           noARN + " `TestListenerTLS` has the port closed.",
	"VirtualNode.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns":         noARN + " `TestTLSDefaults` has calls refused.",
	"VirtualNode.backends.virtualService.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns": noARN + " `TestTLSToBackends` has calls refused.",
	"VirtualGateway.listeners.healthCheck.port":                                                          "It must be the listener's own port or absent, so it says nothing that `portMapping.port` does not.",
	"VirtualGateway.listeners.healthCheck.healthyThreshold":                                              callerChecks,
	"VirtualGateway.listeners.healthCheck.intervalMillis":                                                callerChecks,
	"VirtualGateway.listeners.healthCheck.timeoutMillis":                                                 callerChecks,
	"VirtualGateway.listeners.healthCheck.unhealthyThreshold":                                            callerChecks,

	"VirtualGateway.listeners.tls.certificate.acm.certificateArn":                                   noARN,
	"VirtualGateway.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns": noARN,
}

const noARN = "There is no certificate authority that an ARN could name yet. Whatever it says, `acm` is a problem on the object, and nothing is sent in plain text."

// NoBehaviour are the fields whose effect no running Envoy can show, with the reason.
// A golden case shows what is made of them.
var NoBehaviour = map[string]string{}

const callerChecks = "Nobody in the mesh checks a gateway: it answers at the check's path, and whoever stands before it has its own intervals and thresholds."
