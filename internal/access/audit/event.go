package audit

import (
	"encoding/json"
	"time"
)

// Sources of events: the service that was called.
const (
	// AppMesh is the App Mesh API, and the streams of proxies.
	AppMesh = "appmesh.amazonaws.com"
	// CloudMap is the Cloud Map API.
	CloudMap = "servicediscovery.amazonaws.com"
	// STS is the query API of AWS's Security Token Service.
	STS = "sts.amazonaws.com"
	// Fairlead is Fairlead's own API under /v1.
	Fairlead = "fairlead"
)

// What App Mesh called the event of a proxy's stream, and the values of the detail
// eventStatus in it.
const (
	StreamName  = "StreamAggregatedResources"
	Established = "ConnectionEstablished"
	Graceful    = "ConnectionGracefullyTerminated"
	Terminated  = "ConnectionTerminated"
)

// Event is one thing that was asked. The log clips what is long and removes nothing
// else: whoever writes an event keeps secrets out of it.
type Event struct {
	Time      time.Time // when it was answered; zero for now
	RequestID string
	// Source is the service that was called: AppMesh, CloudMap, STS or Fairlead.
	Source string
	// Name is the operation; "" is written as "Unknown".
	Name     string
	ReadOnly bool
	Region   string
	// Account is whose trail the event belongs to: the caller's account, "" for a call
	// whose caller is not known. Those are seen only by who sees all accounts.
	Account string
	// Owner is a second account whose trail has the event: the owner of a shared mesh,
	// "" for none. It is not told more of the caller than the account.
	Owner     string
	Principal Identity
	// SourceIP is where the call came from, without a port.
	SourceIP  string
	UserAgent string
	// Request and Response are the parameters and the answer as JSON, nil for none.
	// Checked says that they are known to be JSON in UTF-8: then they are not read again.
	Request, Response json.RawMessage
	Checked           bool
	// ErrorCode and ErrorMessage say why it was refused; "" if it was not.
	ErrorCode, ErrorMessage string
	// Resources are the objects that it was about.
	Resources []Resource
	// Details are those of a stream, nil for a call: connectionId, nodeArn, eventStatus,
	// failureReason. They become serviceEventDetails.
	Details map[string]string
}

// Identity is who called, as far as it is known. All of it may be shown.
type Identity struct {
	Type          string // "IAMUser" or "AssumedRole", "" if it is not known
	ID            string // the user's unique id; ROLE:SESSION of a role
	ARN, Account  string
	KeyID         string // of the access key that signed
	User          string // "" for a role
	Role, RoleARN string
	RoleID        string
	Session       string
}

// Resource is an object that a call was about.
type Resource struct {
	ARN     string `json:"ARN,omitempty"`
	Account string `json:"accountId,omitempty"` // of its owner
	Type    string `json:"type,omitempty"`      // for example "AWS::AppMesh::Mesh"
}
