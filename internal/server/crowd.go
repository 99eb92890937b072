package server

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

const (
	// askCrowded is the question for what is near its quota of streams, and askStreams that
	// for how many streams one virtual node or gateway has.
	askCrowded = "crowded"
	askStreams = "streams"
	// crowdedEvery is how often the first is asked.
	crowdedEvery = 2 * time.Second
	// streamsFor is for how long answers to the second hold.
	streamsFor = time.Second
	// streamsWait is how long the opening of a stream waits for them.
	streamsWait = 500 * time.Millisecond
)

// crowdKey names what streams are counted of, in questions too. ARNs are of the form that
// the owner sees.
type crowdKey struct {
	ARN     string
	Bundles bool
}

// crowd counts the streams that other replicas have, where quotas are near. As long as
// every replica has less than its share of what a quota allows nobody is over it, and
// nothing is asked when a stream opens. What has its share somewhere each replica tells
// the others every two seconds; of that all is counted.
type crowd struct {
	replica *replica.Service

	mu      sync.Mutex
	crowded map[crowdKey]bool // somewhere else
	counts  map[crowdKey]streamsCount
}

// streamsCount is how many streams the others had.
type streamsCount struct {
	at      time.Time
	streams int
	changed <-chan struct{} // of the replicas: closed, it does not hold
}

// run asks the others until ctx ends.
func (c *crowd) run(ctx context.Context) error {
	tick := time.NewTicker(crowdedEvery)
	defer tick.Stop()
	for {
		crowded := map[crowdKey]bool{}
		replicas := 1 + len(c.replica.Others())
		lists, _ := read[[]crowdKey](c.replica.Ask(ctx, askCrowded, replicas))
		for _, list := range lists {
			for _, k := range list {
				crowded[k] = true
			}
		}
		c.mu.Lock()
		c.crowded = crowded
		for k, n := range c.counts {
			if time.Since(n.at) >= streamsFor {
				delete(c.counts, k)
			}
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// elsewhere is xds.Config.Elsewhere. Replicas that do not answer count as if they had none:
// a quota is no reason to refuse a proxy that cannot be counted.
func (c *crowd) elsewhere(of xds.Crowd, limit int) int {
	changed := c.replica.Changed()
	replicas := 1 + len(c.replica.Others())
	if replicas == 1 {
		return 0
	}
	k := crowdKey{of.ID.ARN(of.Owner), of.Bundles}
	c.mu.Lock()
	crowded, known := c.crowded[k], c.counts[k]
	c.mu.Unlock()
	if !crowded && (of.Streams+1)*replicas <= limit {
		return 0
	}
	if known.holds() {
		return known.streams
	}
	ctx, cancel := context.WithTimeout(context.Background(), streamsWait)
	defer cancel()
	counts, _ := read[int](c.replica.Ask(ctx, askStreams, k))
	sum := streamsCount{at: time.Now(), changed: changed}
	for _, n := range counts {
		sum.streams += n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[k] = sum
	return sum.streams
}

func (n streamsCount) holds() bool {
	select {
	case <-n.changed:
		return false
	default:
		return n.changed != nil && time.Since(n.at) < streamsFor
	}
}

// crowdedHere answers askCrowded, and streamsHere askStreams.
func crowdedHere(x *xds.Server) replica.Handler {
	return handler(func(_ context.Context, replicas int) ([]crowdKey, error) {
		out := []crowdKey{}
		for _, c := range x.Crowded(replicas) {
			out = append(out, crowdKey{c.ID.ARN(c.Owner), c.Bundles})
		}
		return out, nil
	})
}

func streamsHere(x *xds.Server) replica.Handler {
	return func(_ context.Context, in json.RawMessage) (any, error) {
		var k crowdKey
		if err := json.Unmarshal(in, &k); err != nil {
			return nil, err
		}
		id, owner, err := mesh.ParseARN(k.ARN, "", "")
		if err != nil {
			return nil, err
		}
		return x.Crowd(xds.Crowd{ID: id, Owner: owner, Bundles: k.Bundles}).Streams, nil
	}
}
