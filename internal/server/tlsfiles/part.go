package tlsfiles

import (
	"crypto/sha256"
	"fmt"
	"os"
)

// part is some files whose contents are taken together or not at all.
type part struct {
	what  string
	files []string
	// take puts contents in force, or says what is wrong with them.
	take func(contents [][]byte) error

	// What the files held: when they were last taken, at the last look, and when they
	// were last found to be of no use.
	taken, seen, refused sum
}

// sum is a hash of what files held, or of why they could not be read.
type sum [sha256.Size]byte

// read returns what the files hold. The sum is good with an error too.
func (p *part) read() (contents [][]byte, s sum, err error) {
	h := sha256.New()
	for _, name := range p.files {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, sha256.Sum256([]byte(err.Error())), err
		}
		fmt.Fprintf(h, "%d:", len(raw))
		_, _ = h.Write(raw)
		contents = append(contents, raw)
	}
	return contents, sum(h.Sum(nil)), nil
}

// first takes what the files hold at the start.
func (p *part) first() error {
	contents, s, err := p.read()
	if err == nil {
		err = p.take(contents)
	}
	if err != nil {
		return err
	}
	p.taken, p.seen = s, s
	return nil
}

// look takes what the files hold if it has changed, and has not while it was looked at
// twice. It returns an error once for each contents that are of no use.
func (p *part) look() (changed bool, err error) {
	contents, s, err := p.read()
	stable := s == p.seen
	p.seen = s
	switch {
	case s == p.taken:
		p.refused = sum{} // should the same trouble come back, it is told of again
		return false, nil
	case !stable, s == p.refused:
		return false, nil
	}
	if err == nil {
		err = p.take(contents)
	}
	if err != nil {
		p.refused = s
		return false, err
	}
	p.taken, p.refused = s, sum{}
	return true, nil
}
