package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/fairlead-mesh/fairlead/internal/server"
)

// off turns a thing off whose flag takes a file.
const off = "off"

// maxConnections is the greatest number of connections that can be asked for.
const maxConnections = 1_000_000

// listenFlags are the flags of the three listeners: those for all of them, and the same
// for each one, which are stronger.
type listenFlags struct {
	all, api, xds, ops listenerFlags
}

// listenerFlags are flags that exist for all listeners and for each.
type listenerFlags struct {
	prefix                          string // "", "api-", "xds-" or "ops-"
	cert, key, clientCA, clientAuth string
	connections                     int
}

func (f *listenFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.all.cert, "tls-cert", "", "certificate of all listeners, a PEM file; read again when it changes")
	fl.StringVar(&f.all.key, "tls-key", "", "key of the certificate, a PEM file")
	fl.StringVar(&f.all.clientCA, "tls-client-ca", "", "authorities that clients' certificates are verified with, a PEM file")
	fl.StringVar(&f.all.clientAuth, "tls-client-auth", "", "client certificates: optional (one that is presented is verified), required (default optional)")
	fl.IntVar(&f.all.connections, "max-connections", 0, "open connections of each listener at most; more wait (default 10000 API, 20000 discovery, 250 ops)")
	for _, l := range []struct {
		to         *listenerFlags
		prefix, of string
	}{{&f.api, "api-", "the API"}, {&f.xds, "xds-", "the discovery service"}, {&f.ops, "ops-", "the ops address"}} {
		l.to.prefix = l.prefix
		fl.StringVar(&l.to.cert, l.prefix+"tls-cert", "", "--tls-cert for "+l.of+"; \"off\" for no TLS")
		fl.StringVar(&l.to.key, l.prefix+"tls-key", "", "--tls-key for "+l.of)
		fl.StringVar(&l.to.clientCA, l.prefix+"tls-client-ca", "", "--tls-client-ca for "+l.of+"; \"off\" for none")
		fl.StringVar(&l.to.clientAuth, l.prefix+"tls-client-auth", "", "--tls-client-auth for "+l.of)
		fl.IntVar(&l.to.connections, l.prefix+"max-connections", 0, "--max-connections for "+l.of)
	}
}

// fill checks the flags and sets what they say.
func (f *listenFlags) fill(cfg *server.Config) error {
	if err := f.checkAll(); err != nil {
		return err
	}
	for _, l := range []struct {
		own         listenerFlags
		files       *server.TLSFiles
		connections *int
	}{
		{f.api, &cfg.APITLS, &cfg.APIConnections},
		{f.xds, &cfg.XDSTLS, &cfg.XDSConnections},
		{f.ops, &cfg.OpsTLS, &cfg.OpsConnections},
	} {
		var err error
		if *l.files, err = f.files(l.own); err != nil {
			return err
		}
		if *l.connections, err = f.most(l.own); err != nil {
			return err
		}
	}
	return nil
}

// checkAll refuses what is said for all listeners and makes no sense by itself.
func (f *listenFlags) checkAll() error {
	switch a := f.all; {
	case a.cert != "" && a.key == "":
		return errors.New("--tls-cert needs --tls-key")
	case a.key != "" && a.cert == "":
		return errors.New("--tls-key needs --tls-cert")
	case a.clientCA != "" && a.cert == "" && f.api.cert == "" && f.xds.cert == "" && f.ops.cert == "":
		return errors.New("--tls-client-ca needs TLS: --tls-cert and --tls-key")
	}
	return nil
}

// files returns what a listener serves TLS with: its own flags, else those of all.
func (f *listenFlags) files(own listenerFlags) (server.TLSFiles, error) {
	var none server.TLSFiles
	p := own.prefix
	if own.cert == off && (own.key != "" || own.clientCA != "" || own.clientAuth != "") {
		return none, fmt.Errorf("--%[1]stls-cert is off, so --%[1]stls-key, --%[1]stls-client-ca and --%[1]stls-client-auth have no meaning", p)
	}
	if own.cert == off {
		return none, nil
	}
	if (own.cert == "") != (own.key == "") {
		return none, fmt.Errorf("--%[1]stls-cert and --%[1]stls-key are given together or not at all", p)
	}
	cert, key := own.cert, own.key
	if cert == "" {
		cert, key = f.all.cert, f.all.key
	}
	if cert == "" {
		if own.clientCA != "" || own.clientAuth != "" {
			return none, fmt.Errorf("--%[1]stls-client-ca and --%[1]stls-client-auth need TLS: --%[1]stls-cert and --%[1]stls-key", p)
		}
		return none, nil
	}
	ca, auth, authFlag := own.clientCA, own.clientAuth, p+"tls-client-auth"
	if ca == "" {
		ca = f.all.clientCA
	}
	if ca == off {
		ca = ""
	}
	if auth == "" {
		auth, authFlag = f.all.clientAuth, "tls-client-auth"
	}
	switch auth {
	case "", "optional", "required":
	default:
		return none, fmt.Errorf("--%s %q is not allowed: optional or required", authFlag, auth)
	}
	if auth == "required" && ca == "" {
		return none, fmt.Errorf("--%s required needs --%stls-client-ca", authFlag, p)
	}
	return server.TLSFiles{Cert: cert, Key: key, ClientCA: ca, RequireClientCert: auth == "required"}, nil
}

// most returns how many connections a listener holds: its own flag, else that of all, 0
// for the listener's default.
func (f *listenFlags) most(own listenerFlags) (int, error) {
	for _, l := range []listenerFlags{own, f.all} {
		if l.connections < 0 || l.connections > maxConnections {
			return 0, fmt.Errorf("--%smax-connections %d is not allowed: 1 to %d", l.prefix, l.connections, maxConnections)
		}
	}
	if own.connections != 0 {
		return own.connections, nil
	}
	return f.all.connections, nil
}
