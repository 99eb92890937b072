package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What Envoy announces for its upstream connections unless told otherwise.
const (
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
)

const (
	frameHeader = 9        // bytes
	frameMost   = 16 << 10 // what a peer may be sent in one frame, before it says more
	grpcHeader  = 5
)

// ended is why a stream ended, as the server told it.
type ended struct {
	status  string // HTTP's, where it is not 200
	code    string // gRPC's
	message string
}

func (e *ended) Error() string {
	if e.code == "" {
		return "HTTP status " + e.status
	}
	return "grpc status " + e.code + ": " + e.message
}

// conn is an HTTP/2 connection with one gRPC call on it. It has no goroutine of its own:
// who reads it answers settings and pings, and sends what the server's windows let it.
type conn struct {
	net    net.Conn
	in     *bufio.Reader
	decode *hpack.Decoder

	header  [frameHeader]byte
	block   []byte  // of headers that are not complete
	message *[]byte // of the pool, being put together
	unread  int     // bytes of the DATA frame under way
	padding int     // of that frame
	over    *ended  // set by the trailers

	pending []byte // messages that the server's windows have not let out
	streamW int64  // how much the server takes on the stream
	connW   int64  // and on the connection
	initial int64  // SETTINGS_INITIAL_WINDOW_SIZE of the server
	used    int    // received and not given back

	received int64 // bytes of frames, all told
}

// messages are buffers for messages under way. They are not kept by connections, most of
// which are idle.
var messages = sync.Pool{New: func() any { return new([]byte) }}

// target says where streams go.
type target struct {
	addr    string
	tls     *tls.Config // nil for plaintext
	receive int         // bytes of the socket's receive buffer, 0 for the system's choice
	local   net.Addr
}

// dial opens a connection and a call on it whose header block is given.
func dial(ctx context.Context, t target, block []byte) (*conn, error) {
	d := net.Dialer{LocalAddr: t.local}
	c, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	if t.receive > 0 {
		if err := c.(*net.TCPConn).SetReadBuffer(t.receive); err != nil {
			return nil, err
		}
	}
	if t.tls != nil {
		secure := tls.Client(c, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		c = secure
	}
	x := &conn{net: c, in: bufio.NewReaderSize(c, 4<<10), streamW: 65535, connW: 65535, initial: 65535}
	if _, err := c.Write(opening(block)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return x, nil
}

// opening is what a client begins with: preface, settings, its windows, the call.
func opening(block []byte) []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	_ = f.WriteSettings( // to a buffer, which takes everything
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
	)
	_ = f.WriteWindowUpdate(0, connectionWindow-65535)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
	return b.Bytes()
}

// headerBlock encodes the headers of a call as the first block of a connection.
func headerBlock(scheme, authority, method string, more [][2]string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range append([][2]string{
		{":method", "POST"},
		{":scheme", scheme},
		{":path", method},
		{":authority", authority},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"user-agent", "scale"},
	}, more...) {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // to a buffer
	}
	return b.Bytes()
}

// send sends a message, or keeps it until the server takes it.
func (c *conn) send(message []byte) error {
	var head [grpcHeader]byte
	binary.BigEndian.PutUint32(head[1:], uint32(len(message))) //nolint:gosec // requests are short
	c.pending = append(append(c.pending, head[:]...), message...)
	return c.flush()
}

func (c *conn) flush() error {
	for len(c.pending) > 0 {
		n := min(int64(len(c.pending)), c.streamW, c.connW, frameMost)
		if n <= 0 {
			return nil
		}
		frame := appendFrame(nil, http2.FrameData, 0, 1, c.pending[:n])
		if _, err := c.net.Write(frame); err != nil {
			return err
		}
		c.streamW, c.connW, c.pending = c.streamW-n, c.connW-n, c.pending[n:]
	}
	c.pending = nil
	return nil
}

func appendFrame(b []byte, t http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// next reads until a message is complete and hands it to take, which must not keep it.
// The error at the end of a stream is an *ended where the server told why.
func (c *conn) next(take func(message []byte) error) error {
	for {
		done, err := c.fill()
		if err != nil {
			return err
		}
		if done {
			m := c.message
			c.message = nil
			err := take((*m)[grpcHeader:])
			*m = (*m)[:0]
			messages.Put(m)
			return err
		}
		if err := c.frame(); err != nil {
			return err
		}
	}
}

// fill reads of the DATA frame under way what is of one message, and reports whether that
// is complete.
func (c *conn) fill() (bool, error) {
	for c.unread > 0 {
		if c.message == nil {
			c.message = messages.Get().(*[]byte)
		}
		have, want := len(*c.message), grpcHeader
		if have >= grpcHeader {
			if (*c.message)[0] != 0 {
				return false, errors.New("a compressed message, which was not asked for")
			}
			want += int(binary.BigEndian.Uint32((*c.message)[1:grpcHeader]))
		}
		if have < want {
			n := min(want-have, c.unread)
			*c.message = grow(*c.message, want)[:have+n]
			if _, err := io.ReadFull(c.in, (*c.message)[have:]); err != nil {
				return false, err
			}
			c.unread -= n
			have += n
		}
		if have == want && want > grpcHeader || have == grpcHeader && binary.BigEndian.Uint32((*c.message)[1:]) == 0 {
			return true, nil
		}
	}
	return false, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) >= n {
		return b
	}
	return append(make([]byte, 0, n), b...)
}

// frame reads a frame's header and, unless it is DATA, the frame.
func (c *conn) frame() error {
	if c.padding > 0 {
		if _, err := c.in.Discard(c.padding); err != nil {
			return err
		}
		c.padding = 0
	}
	if _, err := io.ReadFull(c.in, c.header[:]); err != nil {
		if errors.Is(err, io.EOF) && c.over != nil {
			return c.over
		}
		return err
	}
	h := c.header
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	flags := http2.Flags(h[4])
	c.received += int64(frameHeader + length)
	if http2.FrameType(h[3]) == http2.FrameData {
		if flags.Has(http2.FlagDataPadded) {
			p, err := c.in.ReadByte()
			if err != nil {
				return err
			}
			c.padding = int(p)
			c.unread = length - 1 - int(p)
		} else {
			c.unread = length
		}
		return c.giveBack(length)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	return c.control(http2.FrameType(h[3]), flags, binary.BigEndian.Uint32(h[5:])&(1<<31-1), payload)
}

// giveBack opens the windows again once a good part of them is used.
func (c *conn) giveBack(n int) error {
	if c.used += n; c.used < streamWindow/4 {
		return nil
	}
	var b []byte
	for _, stream := range []uint32{0, 1} {
		b = appendFrame(b, http2.FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, uint32(c.used))) //nolint:gosec // below 2^31
	}
	c.used = 0
	_, err := c.net.Write(b)
	return err
}

// control takes a frame that is not DATA.
func (c *conn) control(t http2.FrameType, flags http2.Flags, stream uint32, payload []byte) error {
	switch t {
	case http2.FrameHeaders, http2.FrameContinuation:
		return c.headers(t, flags, payload)
	case http2.FrameSettings:
		if flags.Has(http2.FlagSettingsAck) {
			return nil
		}
		for ; len(payload) >= 6; payload = payload[6:] {
			if http2.SettingID(binary.BigEndian.Uint16(payload)) == http2.SettingInitialWindowSize {
				size := int64(binary.BigEndian.Uint32(payload[2:]))
				c.streamW += size - c.initial
				c.initial = size
			}
		}
		if _, err := c.net.Write(appendFrame(nil, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)); err != nil {
			return err
		}
		return c.flush()
	case http2.FramePing:
		if flags.Has(http2.FlagPingAck) {
			return nil
		}
		_, err := c.net.Write(appendFrame(nil, http2.FramePing, http2.FlagPingAck, 0, payload))
		return err
	case http2.FrameWindowUpdate:
		if len(payload) != 4 {
			return errors.New("a WINDOW_UPDATE frame of a wrong length")
		}
		n := int64(binary.BigEndian.Uint32(payload) & (1<<31 - 1))
		if stream == 0 {
			c.connW += n
		} else {
			c.streamW += n
		}
		return c.flush()
	case http2.FrameRSTStream:
		if c.over != nil {
			return c.over
		}
		return fmt.Errorf("the stream was reset: %x", payload)
	}
	return nil // GOAWAY says that no more streams are taken: the end comes by itself
}

// headers takes a part of a header block and, at its end, looks how the call goes.
func (c *conn) headers(t http2.FrameType, flags http2.Flags, payload []byte) error {
	if t == http2.FrameHeaders {
		if flags.Has(http2.FlagHeadersPadded) || flags.Has(http2.FlagHeadersPriority) {
			return errors.New("a HEADERS frame with padding or priority, which no server sends")
		}
		c.block = nil
	}
	c.block = append(c.block, payload...)
	if !flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	if c.decode == nil {
		c.decode = hpack.NewDecoder(4096, nil)
	}
	fields, err := c.decode.DecodeFull(c.block)
	c.block = nil
	if err != nil {
		return err
	}
	e := &ended{}
	for _, f := range fields {
		switch f.Name {
		case ":status":
			e.status = f.Value
		case "grpc-status":
			e.code = f.Value
		case "grpc-message":
			e.message = strings.Clone(f.Value)
		}
	}
	if e.code != "" || e.status != "" && e.status != "200" {
		c.over = e
		return e
	}
	return nil
}

// pings pings the server now and then, until it is told to stop.
func (c *conn) pings(every time.Duration) (stop func()) {
	next := func() time.Duration { return every - every/10 + rand.N(every/5+1) } //nolint:gosec // spreads pings; guards nothing
	frame := appendFrame(nil, http2.FramePing, 0, 0, make([]byte, 8))
	ended := make(chan struct{})
	var timer *time.Timer
	var mu sync.Mutex // timer is set before it is read
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(next(), func() {
		if _, err := c.net.Write(frame); err != nil {
			return // the reader finds out why
		}
		select {
		case <-ended:
		default:
			mu.Lock()
			defer mu.Unlock()
			timer.Reset(next())
		}
	})
	return func() {
		close(ended)
		timer.Stop()
	}
}

func (c *conn) close() { _ = c.net.Close() }

// leaveTime is how long a stream that ends its call waits for the server to end it too.
const leaveTime = 2 * time.Second

// leave ends the connection, or has it ended by who reads it. It may be called while the
// connection is read: each frame is one write.
func (c *conn) leave(how Leave) {
	switch how {
	case LeaveSaying:
		over := appendFrame(nil, http2.FrameData, http2.FlagDataEndStream, 1, nil)
		over = appendFrame(over, http2.FrameGoAway, 0, 0, make([]byte, 8))
		if _, err := c.net.Write(over); err == nil && c.net.SetReadDeadline(time.Now().Add(leaveTime)) == nil {
			return // the reader closes it, once the server's answer is there or late
		}
	case LeaveResetting:
		if t, ok := c.net.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // then it is closed as any other
		}
	}
	c.close()
}
