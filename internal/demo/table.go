package demo

import (
	"fmt"
	"strings"
	"time"
)

// row is one step of the demo in figures.
type row struct {
	step        string
	asked       weights
	seen        tally         // of the requests that count for the share
	failed      int           // of all requests since the step before
	first, last time.Duration // see firstObeying and lastDisobeying
	ok          bool
}

// header writes the table's head, and rows must follow. All is at most 80 columns wide.
func (s *screen) header() {
	s.line("")
	s.detail(dim, fmt.Sprintf("%-12s %11s %16s %23s %8s", "", "weight asked", "share seen", "first by", "last by"))
	s.detail(dim, fmt.Sprintf("%-12s %5s %5s %9s %7s %8s %6s %8s %8s",
		"step", blue, green, blue, green, "requests", "failed", "new", "old"))
}

// row writes one line of the table.
func (s *screen) row(r row) {
	mark := s.good()
	if !r.ok {
		mark = s.bad()
	}
	failed := fmt.Sprintf("%6s", thousands(r.failed))
	if r.failed > 0 {
		failed = s.paint(red, failed)
	}
	text := fmt.Sprintf("  %s %-12s %5d %5d   %s %s %8s %s %8s %8s", mark, r.step, r.asked.blue, r.asked.green,
		s.paint(asBlue, percent(r.seen.share(blue))), s.paint(asOK, percent(r.seen.share(green))),
		thousands(r.seen.total), failed, s.when(r.first), s.when(r.last))
	s.line("%s%s", text, s.bar(r.seen))
}

func percent(v float64) string { return fmt.Sprintf("%6.1f%%", v) }

func (s *screen) when(d time.Duration) string {
	if d == never {
		return "-"
	}
	return span(d)
}

// bar draws the shares where there is colour and room for it.
func (s *screen) bar(t tally) string {
	const cells, tableWidth = 20, 84
	if !s.look.colour || !s.look.symbols || s.look.width < tableWidth+cells {
		return ""
	}
	n := int(t.share(blue)/100*cells + 0.5)
	return "   " + s.paint(asBlue, strings.Repeat("█", n)) + s.paint(asOK, strings.Repeat("█", cells-n))
}

// legend says what exactly the table's columns are.
func (s *screen) legend() {
	s.line("")
	for _, l := range []string{
		"share seen  of the requests sent later than " + span(settleTime) + " after the edit",
		"failed      of all requests since the row before: every end but an answer 200",
		"            to the only try; neither the route nor the clients retry",
		"first by    from calling UpdateRoute to the first answer from a version that",
		"  new         had weight 0 before; \"-\": no single answer can tell",
		"last by     from calling UpdateRoute to the last answer from a version that",
		"  old         has weight 0 now",
	} {
		s.detail(dim, l)
	}
}
