package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var errShort = errors.New("the message ends within a value")

// readMsgpack reads one value of MessagePack: nil, bool, int64, uint64, float64,
// string, []any or map[string]any.
func readMsgpack(b []byte) (value any, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errShort
	}
	c, b := b[0], b[1:]
	switch {
	case c < 0x80:
		return int64(c), b, nil
	case c < 0x90:
		return readMap(b, int(c&0x0f))
	case c < 0xa0:
		return readArray(b, int(c&0x0f))
	case c < 0xc0:
		return readString(b, int(c&0x1f))
	case c >= 0xe0:
		return int64(int8(c)), b, nil
	}
	switch c {
	case 0xc0:
		return nil, b, nil
	case 0xc2, 0xc3:
		return c == 0xc3, b, nil
	}
	size, ok := map[byte]int{
		0xc4: 1, 0xc5: 2, 0xc6: 4, 0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8,
		0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4,
	}[c]
	if !ok {
		return nil, nil, fmt.Errorf("%#x begins no value that is known here", c)
	}
	if len(b) < size {
		return nil, nil, errShort
	}
	var padded [8]byte
	copy(padded[8-size:], b[:size])
	n, b := binary.BigEndian.Uint64(padded[:]), b[size:]
	switch c {
	case 0xca:
		return float64(math.Float32frombits(uint32(n))), b, nil
	case 0xcb:
		return math.Float64frombits(n), b, nil
	case 0xcc, 0xcd, 0xce, 0xcf:
		return n, b, nil
	case 0xd0, 0xd1, 0xd2, 0xd3:
		shift := 64 - 8*size
		return int64(n<<shift) >> shift, b, nil
	case 0xdc, 0xdd:
		return readArray(b, int(n))
	case 0xde, 0xdf:
		return readMap(b, int(n))
	}
	return readString(b, int(n))
}

func readString(b []byte, n int) (any, []byte, error) {
	if len(b) < n {
		return nil, nil, errShort
	}
	return string(b[:n]), b[n:], nil
}

func readArray(b []byte, n int) (any, []byte, error) {
	out := []any{}
	for range n {
		value, rest, err := readMsgpack(b)
		if err != nil {
			return nil, nil, err
		}
		out, b = append(out, value), rest
	}
	return out, b, nil
}

func readMap(b []byte, n int) (any, []byte, error) {
	out := map[string]any{}
	for range n {
		key, rest, err := readMsgpack(b)
		if err != nil {
			return nil, nil, err
		}
		value, rest, err := readMsgpack(rest)
		if err != nil {
			return nil, nil, err
		}
		out[fmt.Sprint(key)], b = value, rest
	}
	return out, b, nil
}
