package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag that takes a number of bytes with a unit, for example 100MB.
type byteSize int64

// units are those of byteSize: powers of 1000, and of 1024 with an i.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
	{"", 1},
}

// Set reads the flag's text.
func (b *byteSize) Set(text string) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*b = byteSize(n * u.bytes)
		return nil
	}
	return errors.New("allowed is a whole number of bytes, with B, kB, MB, GB or KiB, MiB, GiB behind it: 100MB")
}

// String writes the size with the greatest unit that divides it.
func (b *byteSize) String() string {
	best := units[len(units)-2]
	for _, u := range units {
		if u.name != "" && *b != 0 && int64(*b)%u.bytes == 0 && u.bytes > best.bytes {
			best = u
		}
	}
	return strconv.FormatInt(int64(*b)/best.bytes, 10) + best.name
}

// Type names the flag's value in the help.
func (b *byteSize) Type() string { return "bytes" }
