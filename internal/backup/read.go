package backup

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strings"
)

// maxLine bounds a line: a key and a value of etcd's largest request, escaped.
const maxLine = 16 << 20

// Reader reads a backup. It holds one line in memory.
type Reader struct {
	// Header is the first line.
	Header Header

	lines  *bufio.Reader
	buf    []byte
	sum    hash.Hash
	totals Totals
	last   string // key
}

// NewReader reads the first line. It refuses what is no backup, and formats that this
// build does not know.
func NewReader(r io.Reader) (*Reader, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, errors.New("reading a backup: this is not a file that fairlead backup wrote")
	}
	in := &Reader{lines: bufio.NewReaderSize(zip, 1<<16), sum: sha256.New()}
	line, err := in.line()
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(line, &in.Header) != nil || in.Header.Fairlead != kind {
		return nil, errors.New("reading a backup: this is not a file that fairlead backup wrote")
	}
	if f := in.Header.Format; f < 1 || f > Format {
		return nil, fmt.Errorf("reading a backup: its format is %d, this build of Fairlead reads 1 to %d: use a newer one", f, Format)
	}
	in.sum.Write(line)
	return in, nil
}

// Next returns the next entry. Behind the last one the error is io.EOF if the file is
// whole, else it is ErrDamaged (by errors.Is). What was returned before a file is known
// to be whole may be damaged too: Check it first.
func (r *Reader) Next() (Entry, error) {
	line, err := r.line()
	if err != nil {
		return Entry{}, err
	}
	var read struct {
		Entry
		Trailer
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&read); err != nil {
		return Entry{}, r.damaged("a line cannot be read")
	}
	if read.End != nil {
		return Entry{}, r.end(*read.End)
	}
	r.sum.Write(line)
	if !strings.HasPrefix(read.Key, "fairlead/") || read.Key <= r.last {
		return Entry{}, r.damaged("a key is out of place")
	}
	r.last = read.Key
	r.totals.count(read.Entry)
	return read.Entry, nil
}

// end checks the last line.
func (r *Reader) end(t Totals) error {
	r.totals.SHA256 = hex.EncodeToString(r.sum.Sum(nil))
	switch {
	case t.SHA256 != r.totals.SHA256:
		return r.damaged("the checksum does not fit what is in it")
	case t.Entries != r.totals.Entries || !maps.Equal(t.Families, r.totals.Families):
		return r.damaged("the counts do not fit what is in it")
	}
	switch _, err := r.lines.ReadByte(); { // gzip's own end comes with it
	case err == nil:
		return r.damaged("there is something behind its end")
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return r.broken(err)
	}
}

// line returns the next line with its end. It holds until the next call.
func (r *Reader) line() ([]byte, error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.lines.ReadSlice('\n')
		r.buf = append(r.buf, part...)
		switch {
		case err == nil:
			return r.buf, nil
		case len(r.buf) > maxLine:
			return nil, r.damaged("a line is too long")
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		}
		return nil, r.broken(err)
	}
}

// broken says why there is nothing more to read.
func (r *Reader) broken(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.damaged("it was cut off")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), isCorrupt(err):
		return r.damaged("it cannot be decompressed")
	}
	return fmt.Errorf("reading a backup: %w", err)
}

func (r *Reader) damaged(how string) error {
	return fmt.Errorf("reading a backup, after %d entries: %s: %w", r.totals.Entries, how, ErrDamaged)
}

// Check reads a backup to its end and returns what it says of itself. The error says in
// one line why it cannot be used.
func Check(r io.Reader) (Header, Totals, error) {
	in, err := NewReader(r)
	if err != nil {
		return Header{}, Totals{}, err
	}
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return in.Header, in.totals, nil
		}
		if err == nil {
			_, err = e.Value()
		}
		if err != nil {
			return in.Header, Totals{}, err
		}
	}
}

// isCorrupt reports whether compress/flate found what no compressor writes.
func isCorrupt(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.As(err, &corrupt)
}
