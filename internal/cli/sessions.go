package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// WhoAmI prints who the caller is to the server.
func WhoAmI(ctx context.Context, s *Session, term Terminal, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.GetCallerIdentity, &client.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	if form == FormJSON {
		return printJSON(term, out)
	}
	for _, row := range [][2]string{{"Account", out.Account}, {"ARN", out.ARN}, {"Type", out.Type}, {"Id", out.PrincipalID}, {"Region", out.Region}, {"Server", s.endpoint}} {
		term.printf("%-8s %s\n", row[0]+":", printable(row[1]))
	}
	return nil
}

// Assumption says which temporary credentials are wanted.
type Assumption struct {
	// RoleARN is the role to assume; "" is a session of the calling user.
	RoleARN string
	// Session names the session in the audit log; "" is "fairlead".
	Session string
	// Duration is how long they last; 0 is the server's default.
	Duration time.Duration
	// Policy is the file of a policy that the session is bounded by; "" is none.
	Policy string
}

// temporary asks for temporary credentials.
func (s *Session) temporary(ctx context.Context, term Terminal, a Assumption) (client.Credentials, error) {
	length, err := wholeSeconds("duration", a.Duration)
	if err != nil {
		return client.Credentials{}, err
	}
	if a.RoleARN == "" {
		out, err := ask(ctx, s, s.own.CreateSession, &client.CreateSessionInput{DurationSeconds: length})
		if err != nil {
			return client.Credentials{}, err
		}
		return out.Credentials, nil
	}
	in := &client.AssumeRoleInput{RoleARN: a.RoleARN, SessionName: a.Session, DurationSeconds: length}
	if in.SessionName == "" {
		in.SessionName = "fairlead"
	}
	if a.Policy != "" {
		if in.Policy, err = readPolicy(term.In, a.Policy); err != nil {
			return client.Credentials{}, err
		}
	}
	out, err := ask(ctx, s, s.own.AssumeRole, in)
	if err != nil {
		return client.Credentials{}, err
	}
	return out.Credentials, nil
}

// AssumeRole asks for a role's temporary credentials, and prints or writes them.
func AssumeRole(ctx context.Context, s *Session, term Terminal, a Assumption, keep Keeping) error {
	k, err := keep.prepare()
	if err != nil {
		return err
	}
	defer k.drop()
	creds, err := s.temporary(ctx, term, a)
	if err != nil {
		return err
	}
	if keep.JSON {
		return printJSON(term, creds)
	}
	term.printf("# until %s\n", creds.Expiration.UTC().Format(time.RFC3339))
	return k.keep(term, creds)
}

// depthVariable counts the fairleads that have been started by one another on the way to
// credentials.
const depthVariable = "FAIRLEAD_CREDENTIALS_DEPTH"

// mostDepth is how many there may be: a role may be assumed with the credentials of another.
const mostDepth = 4

// GuardCredentials is to be called before Connect by the command that AWS clients start as
// their credential_process. If its own credentials come from a profile whose
// credential_process is that same command, it would start itself for ever.
func GuardCredentials() error {
	depth, err := strconv.Atoi(os.Getenv(depthVariable))
	if err == nil && depth >= mostDepth {
		return usagef("this profile gets its credentials from 'fairlead credentials' again and again: give that command a profile with a key of its own by --profile or --credentials-file")
	}
	if err := os.Setenv(depthVariable, strconv.Itoa(depth+1)); err != nil {
		return fmt.Errorf("setting %s: %w", depthVariable, err)
	}
	return nil
}

// process is what AWS clients read from a credential_process.
type process struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

// ProcessCredentials prints temporary credentials as AWS clients read them from a
// credential_process. Nothing is kept: clients ask anew when they expire.
func ProcessCredentials(ctx context.Context, s *Session, term Terminal, a Assumption) error {
	creds, err := s.temporary(ctx, term, a)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(process{1, creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken, creds.Expiration.UTC().Format(time.RFC3339)})
	if err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	term.printf("%s\n", raw)
	return nil
}
