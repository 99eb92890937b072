package server

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/replica"
)

const (
	// askWanted is the question for the services that a replica's proxies need.
	askWanted = "wanted"
	// wantedEvery is how often the leader asks it.
	wantedEvery = time.Second
	// wantedFor is for how long an answer holds, and for how long a replica that was asked
	// leaves AWS to the leader.
	wantedFor = 10 * time.Second
)

// wantedQuestion is what the leader asks.
type wantedQuestion struct {
	// Accounts are those that the leader has sources for.
	Accounts []string
}

// wanted decides which services this replica asks AWS Cloud Map for: the leader for those
// that the proxies of any replica need. A replica that no leader asks does it for itself:
// instances do not depend on replicas reaching each other.
type wanted struct {
	own      func() []mesh.InstancesKey
	accounts []string // with a source
	replica  func() *replica.Service

	mu     sync.Mutex
	asked  map[string]time.Time // when a leader with a source last asked, by account
	others map[string]answered  // by replica; while this one leads
}

// answered is what another replica's proxies need.
type answered struct {
	at       time.Time
	services []mesh.InstancesKey
}

// services returns what is to be asked for now. It does not wait.
func (w *wanted) services() []mesh.InstancesKey {
	leading := w.replica().Leading()
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.own()
	if !leading {
		return slices.DeleteFunc(slices.Clone(own), func(k mesh.InstancesKey) bool { return time.Since(w.asked[k.Account]) < wantedFor })
	}
	all := map[mesh.InstancesKey]struct{}{}
	for _, k := range own {
		all[k] = struct{}{}
	}
	for _, o := range w.others {
		for _, k := range o.services {
			all[k] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(all))
}

// tell answers the leader.
func (w *wanted) tell(_ context.Context, q wantedQuestion) ([]mesh.InstancesKey, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, account := range q.Accounts {
		w.asked[account] = time.Now()
	}
	return slices.DeleteFunc(slices.Clone(w.own()), func(k mesh.InstancesKey) bool { return !slices.Contains(q.Accounts, k.Account) }), nil
}

// follow asks the others again and again while this replica leads.
func (w *wanted) follow(ctx context.Context) error {
	if len(w.accounts) == 0 {
		return nil
	}
	defer w.take(nil, true)
	tick := time.NewTicker(wantedEvery)
	defer tick.Stop()
	for {
		w.take(w.replica().Ask(ctx, askWanted, wantedQuestion{w.accounts}), false)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// take notes answers. What was answered before holds for a while if none comes.
func (w *wanted) take(answers []replica.Answer, forget bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range answers {
		var services []mesh.InstancesKey
		if a.Err == nil && json.Unmarshal(a.Body, &services) == nil {
			w.others[a.Replica] = answered{now, services}
		}
	}
	maps.DeleteFunc(w.others, func(_ string, o answered) bool { return forget || now.Sub(o.at) > wantedFor })
}
