package meshtest

import (
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/server"
)

// Remote returns a plane for a control plane without TLS that somebody else runs: proxies
// and calls go there. It cannot be stopped.
func Remote(addrs server.Addrs, creds aws.Credentials) *Plane {
	p := &Plane{Addrs: addrs, Creds: creds, Log: &Log{}}
	p.http = p.HTTP()
	p.API = p.Client(creds)
	return p
}
