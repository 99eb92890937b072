package fields

// NoEffect are the fields that cannot change what an Envoy does, with the reason. Taking
// one out changes nothing, which is checked.
var NoEffect = map[string]string{
	"VirtualNode.listeners.healthCheck.port": "It must be the listener's own port or absent, so it says nothing that `portMapping.port` does not.",

	"VirtualNode.listeners.tls.certificate.acm.certificateArn":                                           noARN + " `TestListenerTLS` has the port closed.",
	"VirtualNode.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns":         noARN + " `TestTLSDefaults` has calls refused.",
	"VirtualNode.backends.virtualService.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns": noARN + " `TestTLSToBackends` has calls refused.",
}

const noARN = "There is no certificate authority that an ARN could name yet. Whatever it says, `acm` is a problem on the object, and nothing is sent in plain text."

// NoBehaviour are the fields whose effect no running Envoy can show, with the reason.
// A golden case shows what is made of them.
var NoBehaviour = map[string]string{
	"VirtualGateway.listeners.tls.certificate.acm.certificateArn":                                   acm,
	"VirtualGateway.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns": acm,
}

const acm = "There is no certificate authority that an ARN could name yet: it is a problem on the object, and nothing is sent in plain text."
