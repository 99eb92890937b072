// Package zipped changes compressed files, for tests of what reads them. It imports the
// standard library only.
package zipped

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// Replace returns a file in gzip's form with a text in it replaced, once. It fails the test
// if the text is not there.
func Replace(t testing.TB, file []byte, before, after string) []byte {
	t.Helper()
	in, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err != nil || !bytes.Contains(text, []byte(before)) {
		t.Fatalf("there is no %q: %v", before, err)
	}
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	if _, err := out.Write(bytes.Replace(text, []byte(before), []byte(after), 1)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
