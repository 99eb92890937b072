package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Key signs requests.
type Key struct {
	ID, Secret string
	Token      string // "" for long-lived keys
}

// String hides the secrets, so that a key can be printed by mistake.
func (k Key) String() string { return "access key " + k.ID }

// GoString hides the secrets from %#v.
func (k Key) GoString() string { return k.String() }

// Sign signs a POST to the path "/" without a query by AWS's Signature Version 4, with
// all headers that it has by then.
func (k Key) Sign(req *http.Request, body []byte, service, region string, now time.Time) {
	at := now.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", at)
	if k.Token != "" {
		req.Header.Set("X-Amz-Security-Token", k.Token)
	}
	headers := map[string]string{"host": req.URL.Host}
	names := []string{"host"}
	for name, values := range req.Header {
		name = strings.ToLower(name)
		names = append(names, name)
		headers[name] = strings.Join(values, ",")
	}
	slices.Sort(names)
	signed := strings.Join(names, ";")
	canonical := req.Method + "\n/\n\n"
	for _, name := range names {
		canonical += name + ":" + headers[name] + "\n"
	}
	canonical += "\n" + signed + "\n" + digest(body)
	scope := at[:8] + "/" + region + "/" + service + "/aws4_request"
	signing := []byte("AWS4" + k.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		signing = mac(signing, part)
	}
	signature := mac(signing, "AWS4-HMAC-SHA256\n"+at+"\n"+scope+"\n"+digest([]byte(canonical)))
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+k.ID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(signature))
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
