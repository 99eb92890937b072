// Package lazy holds what an agent makes when it needs it, and not when it starts: it runs
// beside every Envoy, and most of what its commands and variables could ask for no process of
// it does. It imports the standard library alone.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp is a regular expression that is compiled when it is first used. One that counts to
// 255 is tens of kilobytes when it is compiled, and several times that on the way.
type Regexp struct{ compiled func() *regexp.Regexp }

// NewRegexp returns a regular expression. Its first use panics if it is none.
func NewRegexp(text string) Regexp {
	return Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// MatchString is that of regexp.Regexp.
func (r Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// ReplaceAllString is that of regexp.Regexp.
func (r Regexp) ReplaceAllString(src, repl string) string {
	return r.compiled().ReplaceAllString(src, repl)
}
