package restapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// revisionHeader is the header of the answer to a write that has the store's revision of it,
// which DescribePropagation takes. It is spelt as AWS spells its own.
const revisionHeader = "x-fairlead-revision"

// tellRevision puts the revision of a write into the answer's headers.
func (x *exchange) tellRevision(out any) {
	d, ok := out.(data)
	if ok && !x.route.readOnly() && d.object.Revision > 0 {
		x.w.Header()[revisionHeader] = []string{strconv.FormatInt(d.object.Revision, 10)}
	}
}

// PropagationQuery asks how far a change of a mesh has come.
type PropagationQuery struct {
	Mesh mesh.MeshID
	// Revision is the store's at which the change was written; 0 for the mesh's newest.
	Revision int64
	// Wait is how long to wait at most until nothing is pending.
	Wait time.Duration
	// Resource is the virtual node or gateway whose proxies alone count, Object what their
	// configuration must be made of; zero for all.
	Resource, Object mesh.Key
	// Account is whose proxies alone count; "" for all.
	Account string
	// Most is how many proxies, and how many virtual nodes and gateways, are listed at most.
	Most int
}

// PropagationCounts are how many proxies are connected, and in which state they are.
type PropagationCounts struct {
	Proxies, Current, Pending, Rejected int
}

// Propagation is how far a revision has come.
type Propagation struct {
	Revision int64
	PropagationCounts
	// Unconnected is how many virtual nodes and gateways have no proxy; less than 0 if it is
	// not known.
	Unconnected int
	// Resources are the virtual nodes and gateways with proxies that do not have it.
	Resources []ResourcePropagation
	// Behind are the first of these proxies.
	Behind []ProxyBehind
	// Incomplete are the replicas that did not answer.
	Incomplete []ReplicaFailure
}

// ResourcePropagation is how far a revision has come among the proxies of a virtual node or
// gateway.
type ResourcePropagation struct {
	ARN string
	PropagationCounts
}

// ProxyBehind is a proxy that does not have a revision.
type ProxyBehind struct {
	ARN        string // of its virtual node or gateway
	Connection string // the id of its stream
	Peer       string // the address it connects from, with its port
	Rejected   bool   // it rejects part of it; else it is pending
	Reason     string
	Since      time.Time // zero if it is not known
}

// ReplicaFailure says why a replica is missing from an answer.
type ReplicaFailure struct {
	Replica, Reason string
}

func (c ownCall) describePropagation(ctx context.Context, in *v1.DescribePropagationInput) (any, error) {
	m := c.aimMesh(in.MeshName, in.MeshOwner)
	if err := c.look(ctx, "DescribePropagation", m); err != nil {
		return nil, err
	}
	if c.propagation == nil {
		return nil, mesh.Errorf(mesh.ErrUnknownOperation, "%s is not served here", c.x.route.name())
	}
	q := PropagationQuery{Mesh: m, Revision: int64(in.Revision), Wait: time.Duration(in.Wait) * time.Second, Most: in.Limit}
	if q.Most == 0 {
		q.Most = defaultLimit
	}
	if m.Account != c.caller.Account {
		q.Account = c.caller.Account
	}
	var err error
	if q.Resource, err = c.inMesh(m, "resourceArn", in.ResourceARN, mesh.KindVirtualNode, mesh.KindVirtualGateway); err != nil {
		return nil, err
	}
	if q.Object, err = c.inMesh(m, "objectArn", in.ObjectARN, mesh.Kinds...); err != nil {
		return nil, err
	}
	ctx, cancel := c.x.patient(q.Wait)
	defer cancel()
	p, err := c.propagation(ctx, q)
	if err != nil {
		return nil, err
	}
	return v1.DescribePropagationOutput{Propagation: newPropagation(p)}, nil
}

// patient returns a context for a call that takes so much longer than others may, and lets
// the connection wait for it.
func (x *exchange) patient(longer time.Duration) (context.Context, context.CancelFunc) {
	if longer > 0 {
		end := time.Now().Add(longer + 2*callTime)
		rc := http.NewResponseController(x.w)
		// A writer that cannot set deadlines is a test's recorder, which has none. The
		// deadline of reading would end the request too.
		_, _ = rc.SetReadDeadline(end), rc.SetWriteDeadline(end)
	}
	return context.WithTimeout(x.r.Context(), longer+callTime)
}

// inMesh reads the ARN of an object of one of some kinds, which must be in a mesh; zero if
// there is none.
func (c ownCall) inMesh(m mesh.MeshID, member, arn string, kinds ...mesh.Kind) (mesh.Key, error) {
	if arn == "" {
		return mesh.Key{}, nil
	}
	id, _, err := mesh.ParseARN(arn, m.Account, m.Region)
	if err != nil {
		return mesh.Key{}, mesh.Errorf(mesh.ErrBadRequest, "%s: %v", member, err)
	}
	if id.Mesh != m {
		return mesh.Key{}, mesh.Errorf(mesh.ErrBadRequest, "%s must be in mesh %s of account %s, %s was given", member, m.Name, m.Account, shorten(arn))
	}
	for _, k := range kinds {
		if id.Kind == k {
			return id.Key, nil
		}
	}
	return mesh.Key{}, mesh.Errorf(mesh.ErrBadRequest, "%s must be a virtualNode or virtualGateway, %s was given", member, shorten(arn))
}

func newPropagation(p Propagation) v1.Propagation {
	return v1.Propagation{
		Revision: int(p.Revision), Proxies: p.Proxies, Current: p.Current, Pending: p.Pending, Rejected: p.Rejected,
		Unconnected: max(p.Unconnected, 0),
		Resources: each(p.Resources, func(r ResourcePropagation) v1.ResourcePropagation {
			return v1.ResourcePropagation{ARN: r.ARN, Proxies: r.Proxies, Current: r.Current, Pending: r.Pending, Rejected: r.Rejected}
		}),
		Behind: each(p.Behind, func(b ProxyBehind) v1.ProxyBehind {
			state := "PENDING"
			if b.Rejected {
				state = "REJECTED"
			}
			return v1.ProxyBehind{ARN: b.ARN, ConnectionID: b.Connection, Address: b.Peer, State: state, Reason: b.Reason, Since: v1.Time(b.Since)}
		}),
		Incomplete: each(p.Incomplete, func(f ReplicaFailure) v1.ReplicaFailure {
			return v1.ReplicaFailure{Replica: f.Replica, Reason: f.Reason}
		}),
	}
}
