package envoy

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// Envoy refuses an expression whose program is larger than its runtime key
// re2.max_program_size.error_level says: 100 by itself, 1000 in the bootstraps of App
// Mesh's agent and of ours.
const regexLimit = 1000

// largestRegex is the largest program that is let through. It is below Envoy's limit
// because regexSize knows RE2's optimiser from the outside only.
const largestRegex = regexLimit * 4 / 5

// regex checks an expression of RE2 as Envoy will and returns a matcher of whole
// strings. Envoy refuses all routes of a configuration for one expression that it
// cannot compile.
//
// Go's parser is RE2's. Envoy 1.37 reads expression and subject as UTF-8 and Envoy
// 1.40 as bytes (RE2's Latin-1 mode), so an expression must be good for both. For the
// latter it is parsed with each byte taken for a character.
func regex(expr string) (*matcherv3.RegexMatcher, error) {
	if expr == "" {
		return nil, errors.New("the regular expression is empty")
	}
	if at := wideEscape(expr); at != "" {
		return nil, fmt.Errorf("the regular expression has the escape %s, allowed are those of single bytes", at)
	}
	size, err := regexSize(expr, utf8Insts)
	if err != nil {
		return nil, err
	}
	bytesSize, err := regexSize(latin1(expr), byteInsts)
	if err != nil {
		return nil, err
	}
	if size = max(size, bytesSize); size > largestRegex {
		return nil, fmt.Errorf("the regular expression is too complex: its size is about %d, allowed is %d", size, largestRegex)
	}
	return &matcherv3.RegexMatcher{Regex: expr}, nil
}

// regexSize compiles an expression and returns a bound of the size that RE2 gives its
// program: what Envoy reports, or a quarter more on average. An instruction for a
// range of characters costs what insts says, and a choice two, where RE2 needs one or
// two.
func regexSize(expr string, insts func(from, to rune) int) (int, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		var detail *syntax.Error
		if errors.As(err, &detail) {
			return 0, fmt.Errorf("the regular expression is not valid: %s", detail.Code)
		}
		return 0, fmt.Errorf("the regular expression is not valid: %w", err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0, fmt.Errorf("the regular expression does not compile: %w", err)
	}
	size := 4 // where a match begins and ends
	for i := range prog.Inst {
		switch inst := &prog.Inst[i]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			size += 2
		case syntax.InstRune, syntax.InstRune1:
			size += max(1, classInsts(inst, insts))
		case syntax.InstRuneAny:
			size += insts(0, unicode.MaxRune)
		case syntax.InstRuneAnyNotNL:
			size += insts(0, '\n'-1) + insts('\n'+1, unicode.MaxRune)
		case syntax.InstFail, syntax.InstMatch:
		default:
			size++
		}
	}
	return size, nil
}

// classInsts returns the instructions for a class of characters.
func classInsts(inst *syntax.Inst, insts func(from, to rune) int) int {
	n := 0
	if len(inst.Rune) == 1 {
		r := inst.Rune[0]
		n = insts(r, r)
		if syntax.Flags(inst.Arg)&syntax.FoldCase != 0 {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				n += insts(f, f)
			}
		}
		return n
	}
	for i := 0; i+1 < len(inst.Rune); i += 2 {
		n += insts(inst.Rune[i], inst.Rune[i+1])
	}
	return n
}

// byteInsts returns the instructions for a range of characters where each is a byte.
func byteInsts(from, _ rune) int {
	if from > 0xff {
		return 0
	}
	return 1
}

// utf8Insts returns the instructions for a range of characters in UTF-8: one for each
// byte of the sequences of byte ranges that it splits into.
func utf8Insts(from, to rune) int {
	if from == 0x80 && to == unicode.MaxRune {
		return 6 // RE2 has a short form of all that is not ASCII
	}
	length := 4
	for i, last := range []rune{0x7f, 0x7ff, 0xffff} {
		if to <= last {
			length = i + 1
			break
		}
		if from <= last {
			return utf8Insts(from, last) + utf8Insts(last+1, to)
		}
	}
	for i := 1; i < length; i++ {
		low := rune(1)<<(6*i) - 1 // the bits of the last i bytes
		if from&^low == to&^low {
			continue
		}
		if from&low != 0 {
			return utf8Insts(from, from|low) + utf8Insts((from|low)+1, to)
		}
		if to&low != low {
			return utf8Insts(from, to&^low-1) + utf8Insts(to&^low, to)
		}
	}
	return length
}

// latin1 returns a string whose characters are the bytes of s.
func latin1(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			runes := make([]rune, 0, len(s))
			for _, b := range []byte(s) {
				runes = append(runes, rune(b))
			}
			return string(runes)
		}
	}
	return s
}

// wideEscape returns the first escape in an expression that stands for a character
// above the last byte, or "".
func wideEscape(expr string) string {
	for i := 0; i+1 < len(expr); i++ {
		if expr[i] != '\\' {
			continue
		}
		i++ // what is escaped may itself be a backslash
		rest := expr[i:]
		switch {
		case strings.HasPrefix(rest, "x{"):
			digits, _, _ := strings.Cut(rest[2:], "}")
			if n, err := strconv.ParseUint(digits, 16, 64); err == nil && n > 0xff {
				return `\x{` + digits + "}"
			}
		case rest[0] >= '4' && rest[0] <= '7' && len(rest) > 2 && isOctal(rest[1]) && isOctal(rest[2]):
			return `\` + rest[:3]
		}
	}
	return ""
}

func isOctal(b byte) bool { return b >= '0' && b <= '7' }
