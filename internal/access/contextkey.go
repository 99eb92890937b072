package access

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// keyKind says which fact a condition key names.
type keyKind uint8

const (
	keyCurrentTime keyKind = iota + 1
	keyEpochTime
	keyPrincipalAccount
	keyPrincipalARN
	keyPrincipalType
	keyRequestedRegion
	keyRequestTag
	keyResourceAccount
	keyResourceTag
	keySecureTransport
	keySessionName
	keySourceIP
	keyTagKeys
	keyTokenIssueTime
	keyUserID
	keyUserName
	// keyClaim is something that a proof says; see claimNames.
	keyClaim
)

// contextKeys holds the condition keys by their names in lower case: those of AWS
// that mean something here. Names that end in a slash are followed by a tag's key.
var contextKeys = map[string]keyKind{
	"aws:currenttime":      keyCurrentTime,
	"aws:epochtime":        keyEpochTime,
	"aws:principalaccount": keyPrincipalAccount,
	"aws:principalarn":     keyPrincipalARN,
	"aws:principaltype":    keyPrincipalType,
	"aws:requestedregion":  keyRequestedRegion,
	"aws:requesttag/":      keyRequestTag,
	"aws:resourceaccount":  keyResourceAccount,
	"aws:resourcetag/":     keyResourceTag,
	"appmesh:resourcetag/": keyResourceTag,
	"aws:securetransport":  keySecureTransport,
	"sts:rolesessionname":  keySessionName,
	"aws:sourceip":         keySourceIP,
	"aws:tagkeys":          keyTagKeys,
	"aws:tokenissuetime":   keyTokenIssueTime,
	"aws:userid":           keyUserID,
	"aws:username":         keyUserName,
}

const allowedKeys = "aws:CurrentTime, aws:EpochTime, aws:PrincipalAccount, aws:PrincipalArn, aws:PrincipalType, aws:RequestedRegion, " +
	"aws:RequestTag/KEY, aws:ResourceAccount, aws:ResourceTag/KEY, appmesh:ResourceTag/KEY, aws:SecureTransport, aws:SourceIp, aws:TagKeys, " +
	"aws:TokenIssueTime, aws:userid, aws:username and sts:RoleSessionName"

// contextKey is a condition key, in one form whatever its case.
type contextKey struct {
	kind keyKind
	tag  string // of aws:RequestTag and aws:ResourceTag, as it was written; of a claim its name
}

// parseContextKey reads the name of a condition key. Its case does not matter.
func parseContextKey(name string) (contextKey, error) {
	head, tag, slash := strings.Cut(name, "/")
	head = strings.ToLower(head)
	if slash {
		head += "/"
	}
	kind, ok := contextKeys[head]
	if !ok || slash && tag == "" {
		return contextKey{}, fmt.Errorf("%s is not known, allowed are %s", quote(name), allowedKeys)
	}
	return contextKey{kind: kind, tag: tag}, nil
}

// multiple reports whether the key has many values.
func (k contextKey) multiple() bool { return k.kind == keyTagKeys }

// same reports whether two keys are one, spelt the same or not.
func (k contextKey) same(other contextKey) bool {
	return k.kind == other.kind && strings.EqualFold(k.tag, other.tag)
}

// facts is all that a policy can ask about: the question and who puts it.
type facts struct {
	Question
	who      Principal
	region   string     // that the request was signed for
	sourceIP netip.Addr // invalid if it is not known
	secure   bool
	now      time.Time
	issued   time.Time // of the session; zero without one
	// session is the name that an sts:AssumeRole asks for.
	session string
	// subject is who somebody else vouches for, and home the account of the role that is
	// asked for; nil and "" for signed requests.
	subject *federation.Subject
	home    string
}

// values returns the values of a key.
func (f *facts) values(k contextKey) []string {
	switch {
	case k.kind == keyClaim:
		return f.claimValues(k)
	case k.multiple():
		return f.tagKeys()
	}
	if v, ok := f.value(k); ok {
		return []string{v}
	}
	return nil
}

// value returns the value of a key that has one at most; ok is false if it has none.
func (f *facts) value(k contextKey) (v string, ok bool) {
	switch k.kind {
	case keyPrincipalAccount:
		v = f.who.Account
	case keyPrincipalARN:
		v = f.who.policyARN()
	case keyPrincipalType:
		v = "User"
		switch {
		case f.subject != nil:
			v = "FederatedUser"
		case f.who.Type == TypeAssumedRole:
			v = "AssumedRole"
		}
	case keyRequestedRegion:
		v = f.region
	case keyRequestTag:
		return tagValue(f.RequestTags, k.tag)
	case keyResourceTag:
		return tagValue(f.ResourceTags, k.tag)
	case keyResourceAccount:
		v = accountOf(f.Resource)
	case keySecureTransport:
		v = strconv.FormatBool(f.secure)
	case keySessionName:
		v = f.session
	case keySourceIP:
		if f.sourceIP.IsValid() {
			v = f.sourceIP.Unmap().WithZone("").String()
		}
	case keyUserID:
		v = f.who.ID
	case keyUserName:
		v = f.who.User
	case keyEpochTime:
		v = strconv.FormatInt(f.now.Unix(), 10)
	default:
		t, ok := f.time(k)
		return t.UTC().Format(time.RFC3339), ok
	}
	return v, v != ""
}

// time returns the value of a key that is a time.
func (f *facts) time(k contextKey) (t time.Time, ok bool) {
	switch k.kind {
	case keyCurrentTime, keyEpochTime:
		return f.now, true
	case keyTokenIssueTime:
		return f.issued, !f.issued.IsZero()
	}
	return t, false
}

// tagKeys returns the values of aws:TagKeys: the keys that the request names, of
// tags to set as well.
func (f *facts) tagKeys() []string {
	if len(f.RequestTags) == 0 {
		return f.TagKeys
	}
	keys := f.TagKeys[:len(f.TagKeys):len(f.TagKeys)]
	for _, tag := range f.RequestTags {
		keys = append(keys, tag.Key)
	}
	return keys
}

// tagValue returns the value of the tag with a key. As the names of condition keys
// have no case, a tag of another case is as good if there is none of the same.
func tagValue(tags []mesh.TagRef, key string) (value string, ok bool) {
	for i := range tags {
		switch {
		case tags[i].Key == key:
			return tags[i].Value, true
		case !ok && strings.EqualFold(tags[i].Key, key):
			value, ok = tags[i].Value, true
		}
	}
	return value, ok
}

// accountOf returns the account in an ARN, "" if there is none.
func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", arnParts)
	if len(parts) < arnParts {
		return ""
	}
	return parts[4]
}
