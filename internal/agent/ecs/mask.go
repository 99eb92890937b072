package ecs

import (
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

const (
	hidden        = "(hidden)"
	hiddenChanged = "(hidden, changed)"
)

var (
	// secretName finds names whose values are better not shown. It is generous: what is
	// hidden in vain can be looked up, what is shown in vain cannot be taken back.
	secretName = lazy.NewRegexp(`(?i)secret|passw|pwd|token|credential|private|auth|dsn|salt|api.?key|access.?key|(^|[._-])key$|key.?id$|connection.?string`)
	// reference finds names of what leads to a secret and is none.
	reference = lazy.NewRegexp(`(?i)_(file|path|dir|arn|endpoint)$`)
	// secretInURL finds the password of a URL, and secretArgument the value of an argument
	// or setting within a text.
	secretInURL    = lazy.NewRegexp(`(://[^\s:/@]*:)[^\s/@]+@`)
	secretArgument = lazy.NewRegexp(`(?i)((?:secret|passw|pwd|token|api.?key|access.?key)[\w.-]*=\s*)[^\s,;&]+`)
)

// looksSecret reports whether a variable of this name holds what is better not shown.
func looksSecret(name string) bool {
	return secretName.MatchString(name) && !reference.MatchString(name)
}

// mask returns a copy of a task definition for people to see. Of a hidden value that other,
// masked the same way, has otherwise, it says so; other may be nil.
func mask(n, other *node) *node {
	out := n.clone()
	m := masker{old: map[string]string{}}
	if other != nil {
		m.walk(other.clone(), "")
		m.compare = true
	}
	m.walk(out, "")
	return out
}

type masker struct {
	old     map[string]string // path of a hidden value -> what is there
	compare bool
}

// free are lists of references to secrets, which are names and no secrets.
func free(key string) bool {
	return key == "secrets" || key == "secretOptions" || key == "repositoryCredentials"
}

// named are objects whose members have names that users have given.
func named(key string) bool {
	return key == "options" || key == "dockerLabels" || key == "driverOpts" || key == "labels"
}

func (m *masker) walk(n *node, path string) {
	switch n.kind {
	case scalar:
		if s, ok := n.string(); ok {
			shown := secretArgument.ReplaceAllString(secretInURL.ReplaceAllString(s, "${1}"+hidden+"@"), "${1}"+hidden)
			if shown != s {
				m.hide(n, path, shown)
			}
		}
	case list:
		for i, item := range n.items {
			m.walk(item, path+"/"+itemName(item, i))
		}
	case object:
		variable, _ := n.get("name").string()
		for i, key := range n.keys {
			at := path + "/" + key
			switch {
			case free(key):
			case key == "value" && variable != "" && looksSecret(variable),
				named(path[strings.LastIndexByte(path, '/')+1:]) && looksSecret(key):
				m.hide(n.items[i], at, hidden)
			default:
				m.walk(n.items[i], at)
			}
		}
	}
}

// itemName is by what an item of a list is found again: its name where it has one.
func itemName(item *node, i int) string {
	if name, ok := item.get("name").string(); ok {
		return name
	}
	return strconv.Itoa(i)
}

// hide puts a text in the place of a value.
func (m *masker) hide(n *node, path, shown string) {
	value := n.json()
	if !m.compare {
		m.old[path] = value
	} else if old, ok := m.old[path]; ok && old != value {
		shown = strings.ReplaceAll(shown, hidden, hiddenChanged)
	}
	*n = *newScalar(shown)
}
