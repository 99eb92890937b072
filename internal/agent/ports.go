package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// lookAtListeners is how often Envoy is asked for its listeners: a page of a line each.
const lookAtListeners = time.Second

// localPrefix begins the names of the listeners of services for TCP, then comes the
// service, "_" and its port. The control plane names them.
const localPrefix = "lds_local_"

// portsWriter keeps a file, and the log, up to date with the ports on which an explicit
// proxy takes connections to services for TCP.
type portsWriter struct {
	admin  *adminClient
	file   string // "" for the log alone
	logger *slog.Logger

	known   map[string]string // SERVICE:PORT -> where; nil before Envoy has said
	trouble string            // what was logged last of the file
}

// run writes until ctx ends, and then removes the file: its ports lead nowhere any more.
func (w *portsWriter) run(ctx context.Context) {
	w.remove()
	defer w.remove()
	tick := time.NewTicker(lookAtListeners)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks Envoy once, if it has its first configuration, and tells what is new.
func (w *portsWriter) look(ctx context.Context) {
	if w.known == nil {
		if ready, err := w.admin.ready(ctx, true); err != nil || !ready {
			return
		}
	}
	now, err := w.admin.localPorts(ctx)
	if err != nil {
		return // Envoy is busy, or ends: the next time
	}
	if w.known != nil && maps.Equal(now, w.known) && w.trouble == "" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if w.known[name] != now[name] {
			w.logger.Info("a service for TCP is at a port of this host", "service", name, "address", now[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.known)) {
		if now[name] == "" {
			w.logger.Info("a service for TCP is at no port of this host any more", "service", name)
		}
	}
	w.known = now
	w.write()
}

func (w *portsWriter) write() {
	if w.file == "" {
		return
	}
	text, err := portsText(w.file, w.known)
	if err == nil {
		err = replaceFile(w.file, text)
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != w.trouble {
		w.logger.Error("the ports of services for TCP cannot be written down", "file", w.file, "error", err)
	}
	w.trouble = trouble
}

func (w *portsWriter) remove() {
	if w.file == "" {
		return
	}
	if err := os.Remove(w.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.logger.Warn("the file of ports cannot be removed", "file", w.file, "error", err)
	}
}

// portsText returns the content of the file: variables where its name ends with ".env", else
// JSON.
func portsText(file string, ports map[string]string) ([]byte, error) {
	if filepath.Ext(file) != ".env" {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err := e.Encode(ports)
		return b.Bytes(), err
	}
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		variable := portVariable(name)
		if seen[variable] {
			continue // two services whose names differ in what no variable can hold
		}
		seen[variable] = true
		fmt.Fprintf(&b, "%s=%s\n", variable, ports[name])
	}
	return b.Bytes(), nil
}

// portVariable returns the variable of a service's port: REDIS_LOCAL_6379 of
// redis.local:6379.
func portVariable(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			return unicode.ToUpper(r)
		}
		return '_'
	}, name)
	if out[0] >= '0' && out[0] <= '9' {
		return "_" + out
	}
	return out
}

// replaceFile writes a file that everybody may read, by rename.
func replaceFile(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// localPorts asks for the ports of services for TCP: SERVICE:PORT -> where.
func (c *adminClient) localPorts(ctx context.Context) (map[string]string, error) {
	body, err := c.do(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for its listeners: %w", err)
	}
	defer body.Close()
	var page struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(&page); err != nil {
		return nil, fmt.Errorf("reading Envoy's listeners: %w", err)
	}
	out := map[string]string{}
	for _, l := range page.Statuses {
		name, ok := strings.CutPrefix(l.Name, localPrefix)
		at := strings.LastIndexByte(name, '_')
		if !ok || at < 0 || l.Local.Socket.Port == 0 {
			continue
		}
		out[name[:at]+":"+name[at+1:]] = net.JoinHostPort(l.Local.Socket.Address, strconv.Itoa(l.Local.Socket.Port))
	}
	return out, nil
}
