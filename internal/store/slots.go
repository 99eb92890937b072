package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Each object holds a slot: a numbered key below the limit of what it lives in. Two
// that are created at once take different ones and do not disturb each other, and no
// more fit than there are numbers.

// slotWindow is how many slots a refused transaction shows behind the one that was
// taken, and how many are read at once where a free one is looked for.
const slotWindow = 64

// slotPick is the choice of a slot for an object that is being created. It remembers
// what refused attempts showed.
type slotPick struct {
	limits *limits
	quota  mesh.Quota
	// prefix is what the keys of the slots begin with, and end is behind the last.
	prefix, end string

	// number is the slot. below is what it is less than: the limit, unless slots
	// beyond a limit that was lowered are held; new ones there would let in too many,
	// so that none may have come since revision.
	number, below int
	revision      int64
	// free are slots near the last one that a refused attempt found free, and search
	// says that luck has failed.
	free   []int
	search bool
}

// slots returns the choice for a new object.
func (l *limits) slots(id mesh.ID) *slotPick {
	prefix := within(slotPrefix, id.Mesh, id.Kind, id.Parent)
	return &slotPick{limits: l, quota: mesh.ObjectQuota(id.Kind), prefix: prefix, end: clientv3.GetPrefixRangeEnd(prefix)}
}

// slotKey returns the key of a slot. All numbers have one length, so that keys are in
// their order.
func slotKey(prefix string, number int) string {
	const zeros = "0000000"
	digits := strconv.Itoa(number)
	return prefix + zeros[:max(0, len(zeros)-len(digits))] + digits
}

// releaseSlot returns what gives an object's slot back.
func releaseSlot(id mesh.ID, doc *document) []*pb.RequestOp {
	if doc.Slot == nil {
		return nil
	}
	return []*pb.RequestOp{deleteKey(slotKey(within(slotPrefix, id.Mesh, id.Kind, id.Parent), *doc.Slot))}
}

// choose chooses a slot, at random where nothing is known. It refuses if all were held
// at one revision.
func (p *slotPick) choose(ctx context.Context) error {
	limit := p.limits.of(p.quota)
	if limit != p.below {
		p.free, p.below, p.revision = nil, limit, 0
	}
	switch {
	case p.search || limit == 0:
		return p.find(ctx)
	case len(p.free) > 0:
		p.number, p.free, p.search = p.free[rand.N(len(p.free))], nil, true
	default:
		p.number = rand.N(limit)
	}
	return nil
}

// hold returns the conditions under which the chosen slot may be taken.
func (p *slotPick) hold() []condition {
	key, below := slotKey(p.prefix, p.number), slotKey(p.prefix, p.below)
	return []condition{{
		compare: created(key, pb.Compare_EQUAL, 0),
		look: func() clientv3.Op {
			end := slotKey(p.prefix, min(p.number+slotWindow, p.below))
			return clientv3.OpGet(key, clientv3.WithRange(end), clientv3.WithKeysOnly())
		},
		refuse: p.taken,
	}, {
		compare: through(created(below, pb.Compare_LESS, p.revision+1), p.end),
		look: func() clientv3.Op {
			return clientv3.OpGet(below, clientv3.WithRange(p.end), clientv3.WithKeysOnly(), clientv3.WithLimit(1), clientv3.WithMinCreateRev(p.revision+1))
		},
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) == 0 {
				return nil
			}
			p.search = true
			return errChanged
		},
	}}
}

// take takes the slot.
func (p *slotPick) take(id mesh.ID) *pb.RequestOp {
	return putKey(slotKey(p.prefix, p.number), []byte(tail(id.Key)))
}

// taken is told which slots are held from the chosen one on.
func (p *slotPick) taken(found []*mvccpb.KeyValue) error {
	held := p.numbers(found)
	if !held[p.number] {
		return nil
	}
	p.free = nil
	for n := p.number; n < min(p.number+slotWindow, p.below); n++ {
		if !held[n] {
			p.free = append(p.free, n)
		}
	}
	p.search = p.search || len(p.free) == 0
	return errChanged
}

// numbers reads the numbers of slots from their keys.
func (p *slotPick) numbers(found []*mvccpb.KeyValue) map[int]bool {
	out := make(map[int]bool, len(found))
	for _, kv := range found {
		if n, err := strconv.Atoi(strings.TrimPrefix(string(kv.Key), p.prefix)); err == nil {
			out[n] = true
		}
	}
	return out
}

// find looks for a free slot, and refuses if there is none.
func (p *slotPick) find(ctx context.Context) error {
	limit := p.limits.of(p.quota)
	resp, err := p.limits.s.readAll(ctx,
		clientv3.OpGet(quotaKey(p.limits.account)), p.countOp(0, 0, 0), p.countOp(limit, 0, 0))
	if err != nil {
		return err
	}
	revision := p.limits.now.revision
	if p.limits.learn(resp.Responses[0].GetResponseRange().GetKvs()) != revision {
		return errChanged
	}
	held, beyond := resp.Responses[1].GetResponseRange().GetCount(), resp.Responses[2].GetResponseRange().GetCount()
	if held >= int64(limit) {
		return mesh.Errorf(mesh.ErrLimitExceeded, "%s (%s): the limit of %d is reached", p.quota.Title(), p.quota, limit)
	}
	p.revision, p.below = resp.Header.Revision, limit
	if beyond > 0 {
		if err := p.bound(ctx, limit); err != nil {
			return err
		}
	}
	// All that is not held is free below the bound.
	return p.descend(ctx, limit-int(held))
}

// bound lowers the bound so far that the slots below it, together with all that are
// held from it on, are as many as the limit.
func (p *slotPick) bound(ctx context.Context, limit int) (err error) {
	p.below = sort.Search(limit, func(below int) bool {
		if err != nil {
			return true
		}
		var held int64
		held, err = p.count(ctx, below, 0)
		return below+int(held) >= limit
	})
	return err
}

// descend chooses one of so many free slots below the bound, each as likely as the
// others.
func (p *slotPick) descend(ctx context.Context, free int) error {
	from, to := 0, p.below
	for to-from > slotWindow {
		middle := (from + to) / 2
		held, err := p.count(ctx, from, middle)
		if err != nil {
			return err
		}
		if left := middle - from - int(held); rand.N(free) < left {
			to, free = middle, left
		} else {
			from, free = middle, free-left
		}
	}
	resp, err := p.limits.s.readAll(ctx, p.limits.s.opGet(slotKey(p.prefix, from), clientv3.WithRange(slotKey(p.prefix, to)),
		clientv3.WithKeysOnly(), clientv3.WithRev(p.revision)))
	if err != nil {
		return err
	}
	held := p.numbers(resp.Responses[0].GetResponseRange().GetKvs())
	var all []int
	for n := from; n < to; n++ {
		if !held[n] {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("choosing a slot: none is free from %d to %d of %s, which has %d", from, to, p.prefix, free)
	}
	p.number = all[rand.N(len(all))]
	return nil
}

// count counts the slots that were held at the pick's revision.
func (p *slotPick) count(ctx context.Context, from, to int) (int64, error) {
	resp, err := p.limits.s.readAll(ctx, p.countOp(from, to, p.revision))
	if err != nil {
		return 0, err
	}
	return resp.Responses[0].GetResponseRange().GetCount(), nil
}

// countOp counts held slots from a number on, up to another one if it is not 0, at a
// revision if it is not 0.
func (p *slotPick) countOp(from, to int, revision int64) clientv3.Op {
	end := p.end
	if to > 0 {
		end = slotKey(p.prefix, to)
	}
	return p.limits.s.opGet(slotKey(p.prefix, from), clientv3.WithRange(end), clientv3.WithCountOnly(), clientv3.WithRev(revision))
}
