package ca

import (
	"context"
	"slices"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Authority is what there is to know of a mesh's authority. Nothing of it is secret.
type Authority struct {
	Mesh        mesh.MeshID
	TrustDomain string
	// Leaf is how long certificates are valid.
	Leaf time.Duration
	// Roots are those in force, which the mesh trusts.
	Roots []RootState
	// Intermediate is what signs now.
	Intermediate SignerState
	// Step is how far the replacement of a root is, since StepAt; StepNone if none is.
	Step   string
	StepAt time.Time
	// NextStepAt is from when on the next step needs no force; zero if there is none.
	NextStepAt time.Time
	// Bundle is what the mesh trusts.
	Bundle               Bundle
	CreatedAt, UpdatedAt time.Time
}

// RootState is a root in force.
type RootState struct {
	ID, Subject, Source string
	// Signs is set for the root of what signs now.
	Signs               bool
	Certificate         string // PEM
	NotBefore, NotAfter time.Time
	Since               time.Time
}

// SignerState is an intermediate.
type SignerState struct {
	Serial, Subject, Root string
	NotBefore, NotAfter   time.Time
}

// state returns what there is to know of an authority.
func (s *Service) state(a *authority) (Authority, error) {
	out := Authority{
		Mesh: a.mesh, TrustDomain: s.trustDomain, Leaf: time.Duration(a.LeafSeconds) * time.Second,
		Step: a.Step, StepAt: a.StepAt, NextStepAt: a.nextStep(), Bundle: a.bundle(), CreatedAt: a.Created, UpdatedAt: a.Updated,
	}
	for _, x := range a.Anchors {
		certs, err := parseCertificates(x.Certificate)
		if err != nil {
			return out, err
		}
		out.Roots = append(out.Roots, RootState{
			ID: x.ID, Subject: certs[0].Subject.String(), Source: x.Source, Signs: x.ID == a.Signers[0].Anchor,
			Certificate: x.Certificate, NotBefore: certs[0].NotBefore, NotAfter: certs[0].NotAfter, Since: x.Since,
		})
	}
	certs, err := parseCertificates(a.Signers[0].Certificate)
	if err != nil {
		return out, err
	}
	out.Intermediate = SignerState{
		Serial: serialText(certs[0].SerialNumber), Subject: certs[0].Subject.String(), Root: a.Signers[0].Anchor,
		NotBefore: certs[0].NotBefore, NotAfter: certs[0].NotAfter,
	}
	return out, nil
}

// nextStep returns from when on the next step breaks nobody: the new root may sign once
// every certificate has been renewed since it joined the bundle, for with each came the
// bundle; the old one may leave once all that it signed has expired.
func (a *authority) nextStep() time.Time {
	switch a.Step {
	case StepAdded:
		return a.lastLeaf(a.StepAt)
	case StepSwitched:
		var last time.Time
		for _, x := range a.Signers[1:] {
			if x.Until.After(last) {
				last = x.Until
			}
		}
		return last
	}
	return time.Time{}
}

// Describe returns a mesh's authority. The caller needs fairlead:DescribeAuthority on the
// mesh. The error is ErrNotFound if there is none yet.
func (s *Service) Describe(ctx context.Context, c store.Caller, m mesh.MeshID) (Authority, error) {
	if err := s.permit(ctx, c, "DescribeAuthority", m, false); err != nil {
		return Authority{}, err
	}
	a, err := s.mustHave(ctx, m)
	if err != nil {
		return Authority{}, err
	}
	return s.state(a)
}

// mustHave returns the authority of a mesh, which must have one.
func (s *Service) mustHave(ctx context.Context, m mesh.MeshID) (*authority, error) {
	a, _, _, err := s.current(ctx, m, false)
	if err == nil && a == nil {
		err = mesh.Errorf(mesh.ErrNotFound, "mesh %s has no authority yet: one is made with its first certificate, or imported", m.Name)
	}
	return a, err
}

// TrustBundle returns what a mesh trusts, and makes its authority if there is none yet. The
// caller needs fairlead:DescribeTrustBundle on the mesh, which may be shared with it.
func (s *Service) TrustBundle(ctx context.Context, c store.Caller, m mesh.MeshID) (Bundle, error) {
	if err := s.permit(ctx, c, "DescribeTrustBundle", m, true); err != nil {
		return Bundle{}, err
	}
	return s.Trusted(ctx, m)
}

// Import gives a mesh that has no authority yet one whose root is elsewhere, or is
// imported. The caller needs fairlead:ImportAuthority on the mesh.
func (s *Service) Import(ctx context.Context, c store.Caller, m mesh.MeshID, root Root) (Authority, error) {
	if err := s.permit(ctx, c, "ImportAuthority", m, false); err != nil {
		return Authority{}, err
	}
	if root.Vault == nil && root.Certificate == "" && root.PrivateKey == "" {
		return Authority{}, mesh.Errorf(mesh.ErrBadRequest, "either certificate and privateKey or vault is required")
	}
	a, before, uid, err := s.current(ctx, m, true)
	if err != nil {
		return Authority{}, err
	}
	had := mesh.Errorf(mesh.ErrConflict, "mesh %s has an authority already, on which its certificates depend: replace its root in three steps, beginning with AddRoot", m.Name)
	if a != nil {
		return Authority{}, had
	}
	first, err := s.newAuthority(ctx, m, uid, root)
	if err != nil {
		return Authority{}, err
	}
	if a, err = s.write(ctx, before, first); raced(err) {
		return Authority{}, had
	} else if err != nil {
		return Authority{}, err
	}
	return s.state(a)
}

// SetLeaf sets how long the certificates of a mesh are valid. The caller needs
// fairlead:UpdateAuthority on the mesh.
func (s *Service) SetLeaf(ctx context.Context, c store.Caller, m mesh.MeshID, leaf time.Duration) (Authority, error) {
	if leaf < MinLeaf || leaf > MaxLeaf {
		return Authority{}, mesh.Errorf(mesh.ErrBadRequest, "certificateSeconds is %d, allowed are %d to %d", int64(leaf/time.Second), int64(MinLeaf/time.Second), int64(MaxLeaf/time.Second))
	}
	return s.step(ctx, c, "UpdateAuthority", m, func(a *authority) error {
		if end := s.timestamp().Add(time.Duration(a.LeafSeconds) * time.Second); end.After(a.Longest) {
			a.Longest = end
		}
		a.LeafSeconds = int64(leaf / time.Second)
		return nil
	})
}

// step changes an authority for a caller who may do an action.
func (s *Service) step(ctx context.Context, c store.Caller, action string, m mesh.MeshID, change func(*authority) error) (Authority, error) {
	if err := s.permit(ctx, c, action, m, false); err != nil {
		return Authority{}, err
	}
	a, err := s.alter(ctx, m, change)
	if err != nil {
		return Authority{}, err
	}
	return s.state(a)
}

// rotateAction is what the caller needs on the mesh for each step of a replacement.
const rotateAction = "RotateAuthority"

// RotateIntermediate has a new intermediate sign from now on, below the same root.
func (s *Service) RotateIntermediate(ctx context.Context, c store.Caller, m mesh.MeshID) (Authority, error) {
	return s.step(ctx, c, rotateAction, m, func(a *authority) error {
		if a.Signers[0].Chain == "" {
			return mesh.Errorf(mesh.ErrConflict, "what was imported for mesh %s signs by itself, for it may have no intermediate below it: replace it as a root, beginning with AddRoot", m.Name)
		}
		return s.replaceSigner(ctx, a)
	})
}

// AddRoot is the first step of the replacement of a root: the new one, which Fairlead makes
// if root is zero, joins the bundle. It does not sign yet.
func (s *Service) AddRoot(ctx context.Context, c store.Caller, m mesh.MeshID, root Root) (Authority, error) {
	if err := s.permit(ctx, c, rotateAction, m, false); err != nil {
		return Authority{}, err
	}
	anchor, signer, err := s.newRoot(ctx, m, root)
	if err != nil {
		return Authority{}, err
	}
	return s.step(ctx, c, rotateAction, m, func(a *authority) error {
		if a.Step != StepNone {
			return mesh.Errorf(mesh.ErrConflict, "a replacement of mesh %s's root is under way (%s): finish it first, or cancel it", m.Name, a.Step)
		}
		if _, same := a.anchor(anchor.ID); same {
			return mesh.Errorf(mesh.ErrBadRequest, "the root has the same key as the present one")
		}
		a.Anchors = append(a.Anchors, anchor)
		a.Next = &signer
		a.Step, a.StepAt = StepAdded, s.timestamp()
		return nil
	})
}

// SwitchRoot is the second step: what is below the new root signs from now on. Unless it is
// forced, every certificate must have been renewed since the first step.
func (s *Service) SwitchRoot(ctx context.Context, c store.Caller, m mesh.MeshID, force bool) (Authority, error) {
	return s.step(ctx, c, rotateAction, m, func(a *authority) error {
		if a.Step != StepAdded || a.Next == nil {
			return mesh.Errorf(mesh.ErrConflict, "mesh %s has no new root in its bundle: the first step is AddRoot", m.Name)
		}
		if err := s.early(a, force, "some workloads may not have the new root yet"); err != nil {
			return err
		}
		next := *a.Next
		a.Next = nil
		a.use(next, s.timestamp())
		a.Step, a.StepAt = StepSwitched, s.timestamp()
		if a.due(s.now()) {
			return s.replaceSigner(ctx, a)
		}
		return nil
	})
}

// RetireRoot is the third step: the old root leaves the bundle, and what it signed is no
// longer trusted. Unless it is forced, all of that must have expired.
func (s *Service) RetireRoot(ctx context.Context, c store.Caller, m mesh.MeshID, force bool) (Authority, error) {
	return s.step(ctx, c, rotateAction, m, func(a *authority) error {
		if a.Step != StepSwitched {
			return mesh.Errorf(mesh.ErrConflict, "mesh %s's old root signs still: the steps are AddRoot, SwitchRoot, RetireRoot", m.Name)
		}
		if err := s.early(a, force, "certificates that the old root stands for are still valid"); err != nil {
			return err
		}
		stays := a.Signers[0].Anchor
		a.Anchors = slices.DeleteFunc(a.Anchors, func(x anchorValue) bool { return x.ID != stays })
		a.Signers = slices.DeleteFunc(a.Signers, func(x signerValue) bool { return x.Anchor != stays })
		a.Step, a.StepAt = StepNone, s.timestamp()
		return nil
	})
}

// CancelRotation takes the new root out of the bundle again, before it has signed.
func (s *Service) CancelRotation(ctx context.Context, c store.Caller, m mesh.MeshID) (Authority, error) {
	return s.step(ctx, c, rotateAction, m, func(a *authority) error {
		switch a.Step {
		case StepNone:
			return mesh.Errorf(mesh.ErrConflict, "no replacement of mesh %s's root is under way", m.Name)
		case StepSwitched:
			return mesh.Errorf(mesh.ErrConflict, "mesh %s's new root signs already: both roots are trusted until RetireRoot, and another replacement can follow that", m.Name)
		}
		stays := a.Signers[0].Anchor
		a.Anchors = slices.DeleteFunc(a.Anchors, func(x anchorValue) bool { return x.ID != stays })
		a.Next = nil
		a.Step, a.StepAt = StepNone, s.timestamp()
		return nil
	})
}

// early refuses a step that would break connections.
func (s *Service) early(a *authority, force bool, why string) error {
	if at := a.nextStep(); !force && s.now().Before(at) {
		return mesh.Errorf(mesh.ErrConflict, "%s: wait until %s, or say force", why, at.UTC().Format(time.RFC3339))
	}
	return nil
}
