package workload

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/agent/private"
)

// What is kept for a restart, one file each.
const (
	certificateFile = "certificate.json"
	trustSuffix     = ".trust"
)

// kept is the certificate's file.
type kept struct {
	Node  string `json:"node"` // whose it is
	Chain string `json:"chain"`
	Key   string `json:"key"`

	NotAfter   time.Time `json:"notAfter"`
	RenewAfter time.Time `json:"renewAfter"`
}

func (w *Workload) keepCertificate(i Issued, key []byte) {
	text, err := json.Marshal(kept{Node: w.cfg.Node, Chain: i.Chain, Key: string(key), NotAfter: i.NotAfter, RenewAfter: i.RenewAfter})
	w.keep(certificateFile, text, err)
}

func (w *Workload) keepTrust(s *tlsv3.Secret) {
	raw, err := proto.Marshal(s)
	sum := sha256.Sum256([]byte(w.cfg.Node + " " + s.GetName()))
	w.keep(hex.EncodeToString(sum[:8])+trustSuffix, raw, err)
}

// keep writes a file. That it cannot be written is no reason not to serve.
func (w *Workload) keep(name string, content []byte, err error) {
	if w.cfg.Dir == "" {
		return
	}
	if err == nil {
		err = private.WriteFile(filepath.Join(w.cfg.Dir, name), content)
	}
	if err != nil {
		w.cfg.Logger.Error("keeping a certificate for a restart failed", "error", err)
	}
}

// load serves what was kept, unless it is another's, or has expired.
func (w *Workload) load(now time.Time) {
	if text, err := os.ReadFile(filepath.Join(w.cfg.Dir, certificateFile)); err == nil {
		var k kept
		err := json.Unmarshal(text, &k)
		if err == nil {
			_, err = tls.X509KeyPair([]byte(k.Chain), []byte(k.Key))
		}
		switch {
		case err != nil:
			w.cfg.Logger.Warn("a certificate that was kept cannot be read", "error", err)
		case k.Node == w.cfg.Node && now.Before(k.NotAfter):
			w.serveCertificate(Issued{Chain: k.Chain, NotAfter: k.NotAfter, RenewAfter: k.RenewAfter}, []byte(k.Key))
		}
	}
	files, _ := filepath.Glob(filepath.Join(w.cfg.Dir, "*"+trustSuffix)) // the pattern is good
	for _, file := range files {
		raw, err := os.ReadFile(file)
		s := new(tlsv3.Secret)
		if err == nil {
			err = proto.Unmarshal(raw, s)
		}
		if err != nil {
			w.cfg.Logger.Warn("a trust bundle that was kept cannot be read", "file", file, "error", err)
			continue
		}
		sum := sha256.Sum256([]byte(w.cfg.Node + " " + s.GetName()))
		if filepath.Base(file) == hex.EncodeToString(sum[:8])+trustSuffix {
			w.put(s, "kept")
		}
	}
}
