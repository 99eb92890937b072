package ecs

import (
	"fmt"
	"slices"
	"strings"
)

// context is how many lines that are the same stand around those that differ.
const context = 3

// mostCells bounds the work on one difference: far more than two task definitions of the
// greatest size that ECS takes need.
const mostCells = 1 << 24

// change is a line of a difference: ' ', '-' or '+'.
type change struct {
	sign byte
	line string
}

// unified returns the difference of two texts in the unified form, "" if there is none.
func unified(from, to, before, after string) string {
	changes := compare(strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n"))
	var b strings.Builder
	old, now, last := 1, 1, len(changes)
	for i := 0; i < last; {
		end := i
		if changes[i].sign != ' ' {
			end = hunkEnd(changes, i)
		}
		if end == i {
			old, now, i = old+1, now+1, i+1
			continue
		}
		start := max(i-context, 0)
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", from, to)
		}
		lead := i - start
		writeHunk(&b, changes[start:end], old-lead, now-lead)
		for ; i < end; i++ {
			if changes[i].sign != '+' {
				old++
			}
			if changes[i].sign != '-' {
				now++
			}
		}
	}
	return b.String()
}

// hunkEnd returns where the hunk of the difference at i ends: behind the lines of context
// that follow the last difference with less than two contexts to the next.
func hunkEnd(changes []change, i int) int {
	end, same := i, 0
	for j := i; j < len(changes) && same <= 2*context; j++ {
		if changes[j].sign == ' ' {
			same++
			continue
		}
		same, end = 0, j+1
	}
	return min(end+context, len(changes))
}

func writeHunk(b *strings.Builder, changes []change, old, now int) {
	var olds, nows int
	for _, c := range changes {
		if c.sign != '+' {
			olds++
		}
		if c.sign != '-' {
			nows++
		}
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", old, olds, now, nows)
	for _, c := range changes {
		fmt.Fprintf(b, "%c%s\n", c.sign, c.line)
	}
}

// compare returns the fewest changes that lead from one list of lines to the other; of texts
// that are too long for that, changes that do.
func compare(before, after []string) []change {
	var head, tail []change
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		head = append(head, change{' ', before[0]})
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		tail = append(tail, change{' ', before[len(before)-1]})
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	if len(before)*len(after) > mostCells {
		return slices.Concat(head, signed('-', before), signed('+', after), reversed(tail))
	}
	// common[i][j] is how many lines the rests from i and j on have in common.
	common := make([][]int32, len(before)+1)
	for i := range common {
		common[i] = make([]int32, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	out, i, j := head, 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			out, i, j = append(out, change{' ', before[i]}), i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			out, i = append(out, change{'-', before[i]}), i+1
		default:
			out, j = append(out, change{'+', after[j]}), j+1
		}
	}
	return append(out, reversed(tail)...)
}

func signed(sign byte, lines []string) []change {
	out := make([]change, len(lines))
	for i, line := range lines {
		out[i] = change{sign, line}
	}
	return out
}

func reversed(changes []change) []change {
	slices.Reverse(changes)
	return changes
}
