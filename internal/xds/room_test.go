package xds

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// While the processors are short few come in; the others come with those who leave, and more
// of them while the processors are enough.
func TestARoomGrowsWhileItIsQuiet(t *testing.T) {
	t.Parallel()
	a := newAdmission()
	a.room = room{few: 2, most: 5}
	var turns []*turn
	for range 12 {
		turns = append(turns, a.ask("a", false))
	}
	granted := func() (n int) {
		for _, t := range turns {
			select {
			case <-t.granted:
				n++
			default:
			}
		}
		return n
	}
	got := []int{granted()}
	for _, quiet := range []bool{false, false, true, true, true, true, false, false, false, true} {
		a.mu.Lock()
		a.next(quiet)
		a.mu.Unlock()
		got = append(got, granted())
	}
	// Two are in; then three, four and five, of which as many leave as come; then two again.
	if diff := cmp.Diff([]int{2, 3, 4, 6, 8, 10, 11, 11, 11, 11, 12}, got); diff != "" {
		t.Errorf("so many have come in (-want +got):\n%s", diff)
	}
	if a.room.inside != 2 {
		t.Errorf("%d are in", a.room.inside)
	}
}

// All who wait at a door come in, one for each that leaves at least.
func TestDoor(t *testing.T) {
	t.Parallel()
	d := newDoor(room{few: 1, most: 3})
	in := make(chan struct{})
	const all = 50
	for range all {
		go func() {
			d.enter()
			in <- struct{}{}
		}()
	}
	for range all {
		<-in
		d.mu.Lock()
		if d.room.inside > 3 {
			t.Errorf("%d are in", d.room.inside)
		}
		d.mu.Unlock()
		d.leave()
	}
	if d.room.inside != 0 {
		t.Errorf("at the end %d are in", d.room.inside)
	}
}
