package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/agent/workload"
)

// issueTimeout bounds one request for a certificate.
const issueTimeout = 10 * time.Second

// servesWorkload reports whether the agent can serve its workload's certificate: it needs the
// API, and a connection of its own to the control plane.
func (s Settings) servesWorkload() bool { return s.API.Endpoint != "" && s.XDS.Host != "" }

// workloadSocket returns where in a folder of the agent's own the workload's certificate is
// served, "" for not at all. Who needs no certificate may have a folder with a long name.
func (s Settings) workloadSocket(dir string, logger *slog.Logger) string {
	if !s.servesWorkload() {
		return ""
	}
	path := filepath.Join(dir, "workload")
	if len(path) > maxSocketPath {
		logger.Warn("no certificate of the workload can be served, because the path of the socket is too long; set TMPDIR to a shorter one", "path", path, "bytes", len(path), "most", maxSocketPath)
		return ""
	}
	return path
}

// startWorkload serves the workload's certificate, if there is a socket for it, until stop is
// called.
func startWorkload(ctx context.Context, cfg RunConfig) (w *workload.Workload, stop func() error, err error) {
	s := cfg.Settings
	if s.WorkloadSocket == "" {
		return nil, func() error { return nil }, nil
	}
	environ := envoyEnviron(cfg)
	issue, err := issuer(s, environ)
	if err != nil {
		return nil, nil, err
	}
	conn, err := dialServer(s.XDS, environ)
	if err != nil {
		return nil, nil, err
	}
	keep := ""
	if s.CacheDir != "" {
		keep = filepath.Join(s.CacheDir, "workload")
	}
	w, err = workload.New(workload.Config{
		Socket: s.WorkloadSocket, Issue: issue, Control: conn, Node: s.Resource.ARN, Dir: keep, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	l, err := w.Listen()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	var failed error
	served.Go(func() { failed = w.Serve(ctx, l) })
	return w, func() error {
		cancel()
		served.Wait()
		return errors.Join(failed, conn.Close())
	}, nil
}

// issuer returns what has the API sign requests for the workload's certificate.
func issuer(s Settings, environ []string) (func(context.Context, []byte) (workload.Issued, error), error) {
	transport, err := s.API.Client(issueTimeout, nil)
	if err != nil {
		return nil, err
	}
	api, err := client.New(client.Config{
		Endpoint: s.API.Endpoint, Region: s.XDS.Region, HTTPClient: transport, MaxAttempts: 1, UserAgent: "fairlead-agent",
		Credentials: s.XDS.Credentials.provider(environ),
	})
	if err != nil {
		return nil, err
	}
	mesh, _, _ := s.Resource.parts()
	return func(ctx context.Context, request []byte) (workload.Issued, error) {
		out, err := api.IssueCertificate(ctx, &client.IssueCertificateInput{MeshName: mesh, ResourceARN: s.Resource.ARN, Csr: string(request)})
		if err != nil {
			return workload.Issued{}, err
		}
		issued := workload.Issued{Chain: out.CertificateChain, NotAfter: out.NotAfter, RenewAfter: out.RenewAfter}
		if s.CertificateRenew > 0 {
			issued.RenewAfter = time.Now().Add(s.CertificateRenew)
		}
		return issued, nil
	}, nil
}
