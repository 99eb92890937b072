package federation

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// MaxClockSkew is how far the clocks of those who vouch may be off.
const MaxClockSkew = 5 * time.Minute

// Config says how a Verifier verifies. The zero value will do.
type Config struct {
	// Server is the name that requests signed for AWS must be bound to by the header
	// ServerHeader. "": none is accepted.
	Server string
	// AllowLoopback lets issuers and STS endpoints be on this host, and be asked without
	// TLS there. It is for tests.
	AllowLoopback bool
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Logger is told why an issuer or STS could not be asked; nil for none.
	Logger *slog.Logger
}

// Verifier verifies proofs. Its methods may be called from several goroutines.
type Verifier struct {
	server        string
	allowLoopback bool
	now           func() time.Time
	log           *slog.Logger
	keys          *keyCache
	sts           *http.Client
}

// New returns a Verifier.
func New(cfg Config) *Verifier {
	v := &Verifier{server: cfg.Server, allowLoopback: cfg.AllowLoopback, now: cfg.Now, log: cfg.Logger}
	if v.now == nil {
		v.now = time.Now
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.keys = newKeyCache(v.now, v.log, cfg.AllowLoopback)
	v.sts = newClient(nil, cfg.AllowLoopback)
	return v
}

// Subject is who a proof is about.
type Subject struct {
	// Provider is the name of the provider in ARNs, without the account's part:
	// "oidc-provider/HOST/PATH", "certificate-provider/NAME" or "aws-provider/NAME".
	Provider string
	// Name is who it is in the issuer's words, for the audit log and for naming sessions.
	Name string
	// Claims are what the proof says, by the names of condition keys. A name may have
	// several values.
	Claims map[string][]string
	// AWS is set for AWS's principals.
	AWS *AWSPrincipal
}

// AWSPrincipal is who AWS says has signed.
type AWSPrincipal struct {
	// ARN is that of the user, or of the role (not of its session, and without its path,
	// which AWS does not tell).
	ARN string
	// Session is the ARN as AWS gave it.
	Session string
	// Account has twelve digits. ID is AWS's unique id, for a role with its session's
	// name behind a colon.
	Account, ID string
}

// Reason says why a proof is not accepted.
type Reason int

// The reasons.
const (
	// Malformed: it cannot be read.
	Malformed Reason = iota + 1
	// Invalid: it does not hold.
	Invalid
	// Expired: it held once.
	Expired
	// Unavailable: whoever could say so cannot be asked just now.
	Unavailable
)

// Error is why a proof is not accepted. Its text is one line that may be told to whoever
// brought the proof: it repeats nothing of the proof, and nothing that other hosts said.
type Error struct {
	Reason  Reason
	message string
}

// Error returns the message.
func (e *Error) Error() string { return e.message }

func refuse(r Reason, format string, args ...any) error {
	return &Error{Reason: r, message: fmt.Sprintf(format, args...)}
}

// ReasonOf returns the reason of an error, 0 if it is none of this package's.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}
