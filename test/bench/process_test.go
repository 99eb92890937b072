package bench

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// etcdVariable tells a process of this test's program that it is an etcd, and where its
// data is.
const etcdVariable = "FAIRLEAD_BENCH_ETCD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(etcdVariable); dir != "" {
		if err := serveEtcd(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if settings := os.Getenv(proxiesVariable); settings != "" {
		if err := runProxies(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	meshtest.Cleanup()
	os.Exit(code)
}

// process is a server under test.
type process struct {
	url   string // of the API
	creds aws.Credentials
}

// listening finds where a server says that it listens.
var listening = regexp.MustCompile(`(?:listening .*api|endpoint)=(\S+)`)

// startServer builds and starts bin/fairlead as users do, until the benchmark ends.
func startServer(b *testing.B) *process {
	b.Helper()
	dir := b.TempDir()
	program := meshtest.Fairlead(b, dir)
	data := filepath.Join(dir, "data")
	addr := start(b, exec.Command(program, "server", "--data-dir", data,
		"--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"))
	return &process{url: "http://" + addr, creds: meshtest.ReadCredentials(b, filepath.Join(data, "credentials"))}
}

// startEtcd starts an etcd that waits for the disk, as the embedded one does, with the
// objects to be read in it, and returns where it listens.
func startEtcd(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), etcdVariable+"="+b.TempDir())
	endpoint := start(b, cmd)
	fill := etcdClients(b, endpoint, 1, func(ctx context.Context, c *clientv3.Client, i int64) error {
		_, err := c.Put(ctx, fmt.Sprintf("bench/n%d", i), value)
		return err
	})[0]
	for i := range described {
		if err := fill(b.Context(), int64(i)); err != nil {
			b.Fatal(err)
		}
	}
	return endpoint
}

// start starts a server, waits until it says where it listens, and ends it with the
// benchmark.
func start(b *testing.B, cmd *exec.Cmd) (addr string) {
	b.Helper()
	out, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // how does not matter
	})
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
			return m[1]
		}
		said = append(said, lines.Text())
	}
	b.Fatalf("%s has ended: %s", cmd.Path, strings.Join(said, "\n"))
	return ""
}

// serveEtcd runs an etcd until it is told to end.
func serveEtcd(dir string) error {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	cfg.AdvertisePeerUrls, cfg.ListenPeerUrls = []url.URL{self}, nil
	cfg.InitialCluster = cfg.Name + "=" + self.String()
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2379"}}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "10m"
	cfg.QuotaBackendBytes = 8 << 30
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	<-e.Server.ReadyNotify()
	fmt.Fprintf(os.Stderr, "endpoint=%s\n", e.Clients[0].Addr())
	return <-e.Err()
}

// line is a client of the API with one connection and no more work than a client must
// do: it signs, writes, and reads the answer.
type line struct {
	process *process
	signer  *v4.Signer
	conn    net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
}

func newLine(b *testing.B, p *process) *line {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &line{process: p, signer: v4.NewSigner(), conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}
}

func (l *line) call(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, l.process.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(body))
	if err := l.signer.SignHTTP(ctx, l.process.creds, req, hex.EncodeToString(sum[:]), "appmesh", meshtest.Region, time.Now()); err != nil {
		return err
	}
	if err := req.Write(l.out); err != nil {
		return err
	}
	if err := l.out.Flush(); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.in, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, answer)
	}
	return err
}
