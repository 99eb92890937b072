package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Wire is the cable between a host and its network: this process carries each frame from one
// end to the other, and so can lose it or carry it late. It needs no part of the kernel but
// the TAP device, where the kernel's own way (netem) is a module that many builds lack.
//
// What is cut is lost without a word to either side, as with a cable that was pulled or a
// firewall that forgot a connection.
type Wire struct {
	from, to path // the host
	ends     [2]*os.File
	over     sync.WaitGroup
}

// Trouble is what happens to frames in one direction. The zero Trouble is none.
type Trouble struct {
	// Peers are the other ends, by their IPv4 addresses, that it is about; nil for all.
	Peers []netip.Addr
	// Delay is how much later a frame arrives.
	Delay time.Duration
	// Loss is the part of the frames that never do, 0 to 1.
	Loss float64
}

// Cut is the trouble that loses every frame from and to some peers, or all if none is named.
func Cut(peers ...netip.Addr) Trouble { return Trouble{Loss: 1, Peers: peers} }

// Set gives the wire trouble in the direction away from the host and in that towards it.
// Frames under way arrive as they would have.
func (w *Wire) Set(from, to Trouble) {
	w.from.trouble.Store(&from)
	w.to.trouble.Store(&to)
}

// Lost returns how many frames the wire has lost, in both directions.
func (w *Wire) Lost() int64 { return w.from.lost.Load() + w.to.lost.Load() }

// AddWired makes a host whose link to the network is a wire. The error is a *LackError where
// this machine has no TAP devices.
func (w *Network) AddWired() (*Host, *Wire, error) {
	wire := &Wire{}
	h, err := w.add(func(n *Namespace, number int) (err error) {
		if wire.ends[0], err = openTAP(n, "eth0"); err != nil {
			return err
		}
		name := fmt.Sprintf("v%d", number)
		if wire.ends[1], err = openTAP(w.Namespace, name); err != nil {
			return err
		}
		return w.ip("link set " + name + " master bridge0 up")
	})
	w.wires = append(w.wires, wire)
	if err != nil {
		return nil, nil, err
	}
	wire.over.Go(func() { wire.from.carry(wire.ends[0], wire.ends[1]) })
	wire.over.Go(func() { wire.to.carry(wire.ends[1], wire.ends[0]) })
	return h, wire, nil
}

// close ends the wire, and with it both devices.
func (w *Wire) close() {
	for _, f := range w.ends {
		if f != nil {
			_ = f.Close()
		}
	}
	w.over.Wait()
}

// openTAP makes a network device of a namespace, whose frames are read and written here.
func openTAP(n *Namespace, name string) (f *os.File, err error) {
	err = n.Do(func() error {
		const device = "/dev/net/tun"
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return &LackError{fmt.Sprintf("opening %s: %v", device, err)}
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("making the device %s: %w", name, err)
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, err
}

// longest is more than a frame has bytes: the devices' MTU is 1500.
const longest = 2048

// underWay bounds how many frames are on a wire in one direction; more are lost, as a
// switch's full buffer loses them.
const underWay = 8192

// about reports whether the trouble is about a frame.
func (t *Trouble) about(frame []byte) bool {
	if t.Peers == nil {
		return true
	}
	// An Ethernet header, 14 bytes with the type at their end, then one of IPv4, in which
	// the addresses begin at the 12th byte and the 16th.
	if len(frame) < 34 || frame[12] != 0x08 || frame[13] != 0x00 {
		return false
	}
	from, to := netip.AddrFrom4([4]byte(frame[26:30])), netip.AddrFrom4([4]byte(frame[30:34]))
	return slices.Contains(t.Peers, from) || slices.Contains(t.Peers, to)
}

// path is one direction of a wire.
type path struct {
	trouble atomic.Pointer[Trouble] // nil: none
	lost    atomic.Int64
}

// frame is one that is due at a time.
type frame struct {
	due   time.Time // zero: at once
	bytes []byte
}

// carry takes frames from one end to the other, in their order, until an end is closed.
func (p *path) carry(from, to *os.File) {
	queue, over := make(chan frame, underWay), make(chan struct{})
	go func() {
		defer close(over)
		deliver(queue, to)
	}()
	defer func() { close(queue); <-over }()
	buf := make([]byte, longest)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) || n == 0 {
			return
		}
		if err != nil {
			continue // the device is down for a moment
		}
		f := frame{bytes: append([]byte(nil), buf[:n]...)}
		if t := p.trouble.Load(); t != nil && t.about(f.bytes) {
			if t.Loss > 0 && rand.Float64() < t.Loss {
				p.lost.Add(1)
				continue
			}
			if t.Delay > 0 {
				f.due = time.Now().Add(t.Delay)
			}
		}
		select {
		case queue <- f:
		default:
			p.lost.Add(1)
		}
	}
}

// deliver writes frames when they are due, until there are no more.
func deliver(queue <-chan frame, to *os.File) {
	for f := range queue {
		if left := time.Until(f.due); !f.due.IsZero() && left > 0 {
			<-time.After(left)
		}
		_, _ = to.Write(f.bytes) // a device that is down loses it, as a network does
	}
}
