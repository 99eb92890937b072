package intercept

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// part is one expression of a rule, as the kernel tells it.
type part struct {
	name string
	data []byte
}

// unread stands for an expression that cannot be read, in rules of others: it makes them
// differ from ours.
const unread = "an expression that cannot be read"

// readParts returns the expressions of all rules in our table of a family, by the rules'
// handles. The library's own reading passes over those that it does not know, "socket"
// among them, as if they were not there.
func readParts(family nftables.TableFamily) (map[uint64][]part, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetReadBuffer(netlinkBuffer)
	_ = c.SetDeadline(time.Now().Add(netlinkTime))
	table, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(rules.TableName), 0)}})
	if err != nil {
		return nil, err
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, table...),
	})
	if err != nil {
		return nil, fmt.Errorf("reading the expressions of rules: %w", err)
	}
	out := map[uint64][]part{}
	for _, m := range answers {
		if len(m.Data) < nfgenSize {
			continue
		}
		handle, parts, err := ruleParts(m.Data[nfgenSize:])
		if err != nil {
			return nil, fmt.Errorf("decoding the expressions of a rule: %w", err)
		}
		out[handle] = parts
	}
	return out, nil
}

// nfgenSize is how long the header is that begins netfilter's messages.
const nfgenSize = 4

func ruleParts(data []byte) (handle uint64, parts []part, err error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return 0, nil, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_HANDLE:
			handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					list.Nested(func(one *netlink.AttributeDecoder) error {
						var p part
						for one.Next() {
							switch one.Type() {
							case unix.NFTA_EXPR_NAME:
								p.name = one.String()
							case unix.NFTA_EXPR_DATA:
								p.data = one.Bytes()
							}
						}
						parts = append(parts, p)
						return nil
					})
				}
				return nil
			})
		}
	}
	return handle, parts, ad.Err()
}

// whole puts back what the library has passed over in a rule.
func whole(family nftables.TableFamily, read []expr.Any, parts []part) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch {
		case p.name == "socket":
			s := &expr.Socket{}
			if err := expr.Unmarshal(byte(family), p.data, s); err != nil {
				return append(out, &expr.Target{Name: unread})
			}
			out = append(out, s)
		case len(read) > 0:
			out, read = append(out, read[0]), read[1:]
		default:
			return append(out, &expr.Target{Name: unread})
		}
	}
	return append(out, read...)
}
