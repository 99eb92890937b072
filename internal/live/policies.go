package live

import (
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// lookAgain is how long the clock waits at most before it looks whether a policy begins or
// ends: the machine's time may have been set meanwhile.
const lookAgain = time.Minute

// policies are those of a mesh. What is in force is in the snapshot twice: by its name, and
// under what it is aimed at, where views look for it. So translation knows no time.
type policies struct {
	now   func() time.Time
	turn  func() // is called when something may begin or end
	all   map[string]*policy
	timer *time.Timer // nil: nothing begins or ends
}

// policy is one of them.
type policy struct {
	spec    *mesh.PolicySpec // nil if it cannot be read
	content *mesh.Content
	item    *mesh.Item // as it is by its name
	aimed   mesh.Key   // where it is in force, the zero key while it is not
}

// follow takes note of the policies among some keys that have changed, and returns what else
// has changed with them.
func (p *policies) follow(edit *mesh.Edit, changed []mesh.Key) (more []mesh.Key) {
	for _, k := range changed {
		if k.Kind != mesh.KindPolicy {
			continue
		}
		one := p.all[k.Name]
		if one == nil {
			one = new(policy)
			p.all[k.Name] = one
		}
		more = one.withdraw(edit, more)
		one.item, one.content, one.spec = edit.Get(k), nil, nil
		if one.item == nil {
			delete(p.all, k.Name)
		} else if one.content = one.item.Content(); one.content != nil {
			one.spec = one.content.Spec.(*mesh.PolicySpec)
		}
	}
	return append(more, p.turned(edit)...)
}

// turned puts in force what is to be by now, takes out what is not, and returns what has
// changed.
func (p *policies) turned(edit *mesh.Edit) (changed []mesh.Key) {
	if len(p.all) == 0 && p.timer == nil {
		return nil
	}
	now, wait := p.now(), time.Duration(0)
	for name, one := range p.all {
		if one.spec == nil {
			continue
		}
		holds, next := one.spec.InForce(now)
		if !next.IsZero() && (wait == 0 || next.Sub(now) < wait) {
			wait = min(next.Sub(now), lookAgain)
		}
		switch {
		case holds && one.aimed == (mesh.Key{}):
			one.aimed = one.spec.Aimed(edit.Mesh(), name)
			content := one.content
			edit.Put(mesh.NewItem(one.aimed, one.item.Revision, func() *mesh.Content { return content }))
			changed = append(changed, one.aimed)
		case !holds:
			changed = one.withdraw(edit, changed)
		}
	}
	p.wait(wait)
	return changed
}

// withdraw takes a policy out of force, if it is.
func (one *policy) withdraw(edit *mesh.Edit, changed []mesh.Key) []mesh.Key {
	if one.aimed == (mesh.Key{}) {
		return changed
	}
	edit.Delete(one.aimed)
	changed = append(changed, one.aimed)
	one.aimed = mesh.Key{}
	return changed
}

// wait has turn called after a time, 0 for never.
func (p *policies) wait(d time.Duration) {
	switch {
	case p.timer != nil && d == 0:
		p.timer.Stop()
		p.timer = nil
	case p.timer != nil:
		p.timer.Reset(d)
	case d > 0:
		p.timer = time.AfterFunc(d, p.turn)
	}
}

// stopClock ends the waiting for policies that begin or end.
func (s *meshState) stopClock() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.policies.wait(0)
}

// AimlessPolicy is a policy whose target is not there.
type AimlessPolicy struct {
	ARN         string
	Key, Target mesh.Key
}

// AimlessPolicies returns the policies of a mesh that do nothing because there is no object
// of their target's name, in the order of their names.
func (l *Live) AimlessPolicies(id mesh.MeshID) []AimlessPolicy {
	snap := l.Snapshot(id)
	var out []AimlessPolicy
	for _, i := range snap.Children(mesh.Range{Kind: mesh.KindPolicy}) {
		c := i.Content()
		if c == nil {
			continue
		}
		if target := c.Spec.(*mesh.PolicySpec).Target.Key(id); snap.Get(target) == nil {
			out = append(out, AimlessPolicy{ARN: mesh.ID{Mesh: id, Key: i.Key}.ARN(c.ResourceOwner), Key: i.Key, Target: target})
		}
	}
	return out
}

// AccessWarnings returns what the access policies of a mesh do that may not be meant; with
// those that an object which was just written would add, nil for none.
func (l *Live) AccessWarnings(id mesh.MeshID, written *mesh.Object) []mesh.PolicyWarning {
	snap := l.Snapshot(id)
	if written != nil {
		edit := snap.Edit()
		edit.Put(mesh.NewItem(written.ID.Key, snap.Revision, func() *mesh.Content {
			spec, err := mesh.ParseSpec(written.ID.Kind, written.Spec)
			if err != nil {
				return nil
			}
			return &mesh.Content{ResourceOwner: written.ResourceOwner, Version: written.Version, Spec: spec}
		}))
		snap = edit.Done(snap.Revision)
	}
	return mesh.AccessWarnings(snap, time.Now())
}
