package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Where the records lie. Authorities are followed; certificates that were issued are
// not, and go when they have expired.
const (
	authorityPrefix = "ca/"
	issuedPrefix    = "caissued/"
)

// recordFormat is the newest format of records that this build reads and writes.
const recordFormat = 1

// The steps of the replacement of a root.
const (
	StepNone     = ""
	StepAdded    = "ADDED"    // the new root is in the bundle
	StepSwitched = "SWITCHED" // the new root's intermediate signs
)

// Where roots come from.
const (
	SourceMade     = "MADE"
	SourceImported = "IMPORTED"
	SourceVault    = "VAULT"
)

// authorityValue is the JSON of ca/ACCOUNT/REGION/MESH: all of an authority, so that
// each change of it is one compare and one put.
type authorityValue struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// MeshUID tells the mesh from another of the same name that was there before.
	MeshUID string `json:"meshUid"`
	// LeafSeconds is how long certificates are valid.
	LeafSeconds int64 `json:"leafSeconds"`
	// Longest is when the last certificate ends that was issued while they were valid longer.
	Longest time.Time `json:"longest"`
	// Anchors are the trust bundle; two while a root is being replaced, the new one last.
	Anchors []anchorValue `json:"anchors"`
	// Signers sign: the current one first, then those that were replaced while what they
	// signed may be valid.
	Signers []signerValue `json:"signers"`
	// Step is how far the replacement of a root is, since StepAt.
	Step string `json:"step"`
	// Next is what signs below the new root once it is used, at StepAdded.
	Next   *signerValue `json:"next"`
	StepAt time.Time    `json:"stepAt"`
	// Workloads get no certificates: by KIND/NAME.
	Workloads map[string]workloadRevocation `json:"workloads"`
	// Serials are revoked certificates, by serial number in hexadecimal digits.
	Serials map[string]serialRevocation `json:"serials"`
	// CRLs are the signed lists of Serials, PEM, one for each signer; empty while nothing is
	// revoked. Kept here so that all replicas serve the same bytes.
	CRLs []string `json:"crls"`
	// CRLOf is a hash of what CRLs say and of who signed them.
	CRLOf string `json:"crlOf"`
	// CRLNumber counts the lists.
	CRLNumber int64 `json:"crlNumber"`
}

// anchorValue is a root in force: a certificate that is trusted.
type anchorValue struct {
	ID          string    `json:"id"`
	Certificate string    `json:"certificate"` // PEM
	Source      string    `json:"source"`
	Since       time.Time `json:"since"`
	// Sealed is the private key, PKCS #8, sealed by the store; empty where it is elsewhere.
	Sealed []byte `json:"sealedKey"`
	// SealedVault is a sealed Vault as JSON, of SourceVault.
	SealedVault []byte `json:"sealedVault"`
}

// signerValue is an intermediate, or an imported authority that signs leaves itself.
type signerValue struct {
	Anchor      string    `json:"anchor"`
	Certificate string    `json:"certificate"` // PEM
	Chain       string    `json:"chain"`       // PEM: what follows a leaf, down to below the anchor
	Sealed      []byte    `json:"sealedKey"`
	Since       time.Time `json:"since"`
	// Until is when the last certificate of a signer that was replaced ends; zero for the
	// current one.
	Until time.Time `json:"until"`
}

type workloadRevocation struct {
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"` // zero: until it is lifted
	Reason string    `json:"reason"`
	By     string    `json:"by"`
}

type serialRevocation struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	// Resource is whose certificate it is, KIND/NAME; "" if that is not known.
	Resource string `json:"resource"`
	// Until is when the certificate has expired, and the entry may go.
	Until time.Time `json:"until"`
}

// issuedValue is the JSON of caissued/ACCOUNT/REGION/MESH/KIND/NAME/SERIAL.
type issuedValue struct {
	Format    int       `json:"format"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	URI       string    `json:"uri"`
	Caller    string    `json:"caller"`
}

// anchorMark is the JSON of caanchor/ID: which mesh a root is of.
type anchorMark struct {
	Format int    `json:"format"`
	Mesh   string `json:"mesh"` // ACCOUNT/REGION/MESH
}

const anchorMarkPrefix = "caanchor/"

func meshPath(m mesh.MeshID) string { return m.Account + "/" + m.Region + "/" + m.Name }

func authorityKey(m mesh.MeshID) string { return authorityPrefix + meshPath(m) }

func issuedKey(id mesh.ID, serial string) string {
	return issuedPrefix + meshPath(id.Mesh) + "/" + id.Key.String() + "/" + serial
}

// splitPath reads what meshPath wrote.
func splitPath(path string) (mesh.MeshID, bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return mesh.MeshID{}, false
	}
	return mesh.MeshID{Account: parts[0], Region: parts[1], Name: parts[2]}, true
}

// errFormat says that a newer version of Fairlead wrote a record.
var errFormat = errors.New("record has a format that this version does not know")

func decodeRecord(value []byte, v any) error {
	var f struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(value, &f); err != nil {
		return fmt.Errorf("reading record: %w", err)
	}
	if f.Format < 1 || f.Format > recordFormat {
		return errFormat
	}
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("reading record: %w", err)
	}
	return nil
}

// encodeRecord returns a record with a revision to hold and the members of v. Members of
// before, what the record says now, that this build does not know are kept.
func encodeRecord(key string, revision int64, before []byte, v any) (store.Record, error) {
	all := map[string]json.RawMessage{}
	if before != nil {
		if err := json.Unmarshal(before, &all); err != nil {
			return store.Record{}, fmt.Errorf("writing record %q: %w", key, err)
		}
	}
	known, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(known, &all)
	}
	if err == nil {
		known, err = json.Marshal(all)
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("writing record %q: %w", key, err)
	}
	return store.Record{Key: key, Value: known, Revision: revision}, nil
}
