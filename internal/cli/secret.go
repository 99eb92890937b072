package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// Keeping says what becomes of a secret that a command is told: the server shows it once.
type Keeping struct {
	// File is written in the form of AWS's credentials files, readable by its owner only;
	// "" prints the same on the terminal's output.
	File string
	// Overwrite lets File be there already.
	Overwrite bool
	// Profile is the profile's name in the file; "" is "default".
	Profile string
	// JSON prints the answer as JSON instead. It does not go with File.
	JSON bool
}

// keeper is a place for a secret that is ready before the secret is asked for, so that no
// secret is lost to a folder that cannot be written.
type keeper struct {
	Keeping
	tmp *os.File
}

func (k Keeping) prepare() (*keeper, error) {
	if strings.ContainsAny(k.Profile, "[]\r\n") {
		return nil, usagef("--save-as %q is not allowed: a profile's name has no brackets", k.Profile)
	}
	if k.File == "" {
		return &keeper{Keeping: k}, nil
	}
	if k.JSON {
		return nil, usagef("--save-credentials and --output json exclude each other")
	}
	if _, err := os.Lstat(k.File); err == nil && !k.Overwrite {
		return nil, fmt.Errorf("%s is there already: give another --save-credentials, or --overwrite", k.File)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for --save-credentials: %w", err)
	}
	// CreateTemp's files are readable by their owner only.
	tmp, err := os.CreateTemp(filepath.Dir(k.File), ".fairlead-*")
	if err != nil {
		return nil, fmt.Errorf("writing --save-credentials: %w", err)
	}
	return &keeper{k, tmp}, nil
}

// drop gives the place up, if it was not used.
func (k *keeper) drop() {
	if k.tmp != nil {
		_ = k.tmp.Close()
		_ = os.Remove(k.tmp.Name())
	}
}

// keep prints or writes credentials.
func (k *keeper) keep(term Terminal, c client.Credentials) error {
	text := k.text(c)
	if k.tmp == nil {
		term.printf("%s", text)
		return nil
	}
	_, err := k.tmp.WriteString(text)
	if closing := k.tmp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(k.tmp.Name(), k.File)
	}
	if err != nil {
		// It will not be told again.
		term.printf("%s", text)
		return fmt.Errorf("writing --save-credentials: %w; the credentials are printed instead", err)
	}
	k.tmp = nil
	term.printf("credentials written to %s\n", k.File)
	return nil
}

// text returns credentials in the form of AWS's credentials files.
func (k *keeper) text(c client.Credentials) string {
	profile := k.Profile
	if profile == "" {
		profile = "default"
	}
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", profile, c.AccessKeyID, c.SecretAccessKey)
	if c.SessionToken != "" {
		text += "aws_session_token = " + c.SessionToken + "\n"
	}
	return text
}
