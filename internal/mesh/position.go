package mesh

import (
	"crypto/sha256"
	"encoding/base64"
)

// A page token is a version, a checksum over the list it belongs to and the
// position in it, and the position. It is no secret: a caller who makes one up may
// read from another position of a list that they may read anyway. The checksum
// refuses what is damaged or belongs to another list.
const (
	positionVersion = 1
	positionSum     = 12 // bytes
)

// SealPosition returns the page token of a position in the list that scope names.
func SealPosition(scope, position string) string {
	sum := sha256.Sum256([]byte(scope + "\x00" + position))
	b := append([]byte{positionVersion}, sum[:positionSum]...)
	return base64.RawURLEncoding.EncodeToString(append(b, position...))
}

// OpenPosition returns the position that a page token holds; "" without a token. ok is
// false for a token that does not belong to the list.
func OpenPosition(scope, token string) (position string, ok bool) {
	if token == "" {
		return "", true
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) <= 1+positionSum {
		return "", false
	}
	position = string(b[1+positionSum:])
	return position, SealPosition(scope, position) == token
}
