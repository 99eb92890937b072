package meshtest

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// redirector returns the command that sets rules of the kernel, and the function that
// redirects with it. The error says what to install.
func redirector() (command string, rules func(*namespace, string) error, err error) {
	if path, err := exec.LookPath("iptables-restore"); err == nil {
		if _, err := exec.LookPath("ip6tables-restore"); err == nil {
			return path, redirectByIptables, nil
		}
	}
	if path, err := exec.LookPath("nft"); err == nil {
		return path, redirectByNft, nil
	}
	return "", nil, errors.New("there is neither iptables-restore nor nft; Debian's packages are iptables and nftables")
}

// redirectByIptables sets the rules of App Mesh's route manager, with its names.
func redirectByIptables(n *namespace, ports string) error {
	for command, ignored := range map[string]string{"iptables-restore": "169.254.169.254,169.254.170.2", "ip6tables-restore": ""} {
		rules := []string{
			"*nat", ":APPMESH_EGRESS - [0:0]", ":APPMESH_INGRESS - [0:0]",
			fmt.Sprintf("-A APPMESH_EGRESS -m owner --uid-owner %d -j RETURN", ProxyUser),
			fmt.Sprintf("-A APPMESH_EGRESS -m owner --gid-owner %d -j RETURN", ProxyUser),
			"-A APPMESH_EGRESS -p tcp -m multiport --dports 22 -j RETURN",
		}
		if ignored != "" {
			rules = append(rules, "-A APPMESH_EGRESS -d "+ignored+" -j RETURN")
		}
		rules = append(rules,
			"-A APPMESH_EGRESS -p tcp -j REDIRECT --to-ports 15001",
			"-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS")
		if ports != "" {
			rules = append(rules,
				"-A APPMESH_INGRESS -p tcp -m multiport --dports "+ports+" -j REDIRECT --to-ports 15000",
				"-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS")
		}
		if err := n.run(strings.Join(append(rules, "COMMIT", ""), "\n"), command, "--noflush"); err != nil {
			return err
		}
	}
	return nil
}

// redirectByNft sets rules that do the same.
func redirectByNft(n *namespace, ports string) error {
	inbound := ""
	if ports != "" {
		inbound = fmt.Sprintf(`chain prerouting {
		type nat hook prerouting priority dstnat
		fib saddr type != local tcp dport { %s } redirect to :15000
	}`, ports)
	}
	return n.run(fmt.Sprintf(`table inet appmesh {
	chain egress {
		meta skuid %[1]d return
		meta skgid %[1]d return
		tcp dport 22 return
		ip daddr { 169.254.169.254, 169.254.170.2 } return
		meta l4proto tcp redirect to :15001
	}
	chain output {
		type nat hook output priority -100
		fib daddr type != local meta l4proto tcp jump egress
	}
	%s
}
`, ProxyUser, inbound), "nft", "-f", "-")
}
