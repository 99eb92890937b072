package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// side is one of two things that are compared under the same load.
type side struct {
	name string
	addr string // where requests are sent
	// request is what is sent, time and again.
	request []byte
	// envoys are the processes that it takes.
	envoys []int

	lines []*loadLine
	took  []time.Duration // of all requests
	rates []float64       // requests per second in each turn
	cpu   time.Duration   // that the Envoys took
}

// loadLine is a connection that is kept open and has one request under way at a time: it
// does no more than a client must.
type loadLine struct {
	conn net.Conn
	in   *bufio.Reader
}

// open opens n connections, until the benchmark ends.
func (s *side) open(b *testing.B, n int) {
	b.Helper()
	for range n {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		s.lines = append(s.lines, &loadLine{conn: conn, in: bufio.NewReader(conn)})
	}
}

// work sends requests over all connections for a while, and returns how long each took
// and how many there were in a second.
func (s *side) work(b *testing.B, length time.Duration) (took []time.Duration, rate float64) {
	b.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for _, l := range s.lines {
		wg.Go(func() {
			var mine []time.Duration
			for from := start; from.Sub(start) < length; {
				if err := l.call(s.request); err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
				now := time.Now()
				mine = append(mine, now.Sub(from))
				from = now
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	return took, float64(len(took)) / time.Since(start).Seconds()
}

// call sends a request and reads the answer, which must be 200.
func (l *loadLine) call(request []byte) error {
	if _, err := l.conn.Write(request); err != nil {
		return err
	}
	status, err := l.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answered %q", status)
	}
	length := -1
	for {
		line, err := l.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("the answer has no content-length")
	}
	_, err = l.in.Discard(length)
	return err
}

// responder answers each request at once with the same, until the benchmark ends: the
// least that an application can be. It returns its address.
func responder(b *testing.B, addr string, body int) string {
	b.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = lis.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", body, bytes.Repeat([]byte("a"), body))
	go meshtest.HandleConns(lis, func(conn net.Conn) { respond(conn, answer) })
	return lis.Addr().String()
}

// respond answers requests without bodies until the connection ends.
func respond(conn net.Conn, answer []byte) {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue // of the headers
		}
		if _, err := conn.Write(answer); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

// comparePairs lets two sides work in turns, the order of which changes from pair to pair, and
// reports what both did and the ratio of their rates. A machine that is slower for a while is
// slower for both of a pair.
func comparePairs(b *testing.B, x, y *side, pairs int, length time.Duration) {
	b.Helper()
	for _, s := range []*side{x, y} {
		s.work(b, length) // warm
		s.took, s.rates, s.cpu = nil, nil, 0
	}
	for b.Loop() {
		for i := range pairs {
			order := []*side{x, y}
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, s := range order {
				before := cpu(b, s.envoys)
				took, rate := s.work(b, length)
				s.took, s.rates, s.cpu = append(s.took, took...), append(s.rates, rate), s.cpu+cpu(b, s.envoys)-before
			}
		}
	}
	ratios := make([]float64, len(x.rates))
	for i := range ratios {
		ratios[i] = x.rates[i] / y.rates[i]
	}
	low, high := interval(ratios)
	b.ReportMetric(0, "ns/op") // of all the pairs: it says nothing
	b.ReportMetric(mean(ratios), "ratio")
	b.ReportMetric(low, "ratio-low")
	b.ReportMetric(high, "ratio-high")
	for _, s := range []*side{x, y} {
		b.ReportMetric(mean(s.rates), s.name+"/s")
		b.ReportMetric(float64(s.cpu.Microseconds())/float64(len(s.took)), s.name+"-cpu-us")
		report(b, s.took, s.name+"-p50-ms", 50)
		report(b, s.took, s.name+"-p99-ms", 99)
	}
}

// mean returns the geometric mean: that of ratios is the same whichever way they are.
func mean(all []float64) float64 {
	sum := 0.0
	for _, v := range all {
		sum += math.Log(v)
	}
	return math.Exp(sum / float64(len(all)))
}

// interval returns the bounds within which the mean lies with 95 per cent, found by drawing
// from the values themselves time and again.
func interval(all []float64) (low, high float64) {
	const draws = 10_000
	chance := rand.New(rand.NewPCG(1, 1))
	means, one := make([]float64, draws), make([]float64, len(all))
	for i := range means {
		for j := range one {
			one[j] = all[chance.IntN(len(all))]
		}
		means[i] = mean(one)
	}
	slices.Sort(means)
	return means[draws*25/1000], means[draws*975/1000]
}

func TestInterval(t *testing.T) {
	t.Parallel()
	low, high := interval([]float64{0.9, 1, 1.1, 1, 0.9, 1.1, 1, 1})
	if m := mean([]float64{0.5, 2}); math.Abs(m-1) > 1e-9 || low < 0.93 || low > 0.99 || high < 1.01 || high > 1.07 {
		t.Errorf("mean %v, interval %v to %v", m, low, high)
	}
}
