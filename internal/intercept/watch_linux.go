package intercept

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// quiet is the least time between two repairs: who fights with us over the rules does not
// keep a processor busy.
const quiet = 100 * time.Millisecond

// Switch enables interception, or disables it, in the network namespace of this process:
// by the process that watches there, or directly where none does.
func Switch(s rules.Settings, on bool) (Result, error) {
	name, fingerprint := tellDisable, ""
	if on {
		name, fingerprint = tellEnable, fingerprintOf(s)
	}
	if there, err := tell(name, fingerprint); there {
		return Result{Told: true}, err
	}
	if on {
		return Enable(s)
	}
	return Disable()
}

// fingerprintOf is equal for settings that ask for the same rules by the same backend.
func fingerprintOf(s rules.Settings) string {
	h := sha256.New()
	for _, t := range s.Tables() {
		fmt.Fprintln(h, s.Backend, t.NFT())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// watcher keeps the rules of one network namespace. One goroutine, Run's, owns it.
type watcher struct {
	settings rules.Settings
	logger   *slog.Logger
	on       bool
	backend  backend // what holds the rules; nil before they are set
	ailing   bool    // the last repair or look failed, and the log says so
}

// Run installs the rules, unless the settings have it wait for the command, and watches
// over them until the context is done: what somebody else removes or changes is set
// again. Then the rules stay, unless the settings say otherwise. The error says why
// watching could not begin, or why the rules could not be removed in the end.
func Run(ctx context.Context, s rules.Settings, logger *slog.Logger) error {
	w := &watcher{settings: s, logger: logger}
	commands := make(chan command)
	control, err := listenControl(ctx, commands)
	switch {
	case err == nil:
		defer control.Close()
	case errors.Is(err, unix.EADDRINUSE) && watched():
		return errors.New("another process watches over interception in this network namespace already")
	default:
		logger.Warn("interception cannot be switched by command while this process watches", "reason", err)
	}
	changes, stop := w.changes() // first, so that no change after begin is missed
	defer stop()
	if err := w.begin(); err != nil {
		return err
	}
	tick := time.NewTicker(s.CheckEvery)
	defer tick.Stop()
	// Four things can happen, one at a time.
	for {
		select {
		case c := <-commands:
			c.answer <- w.obey(c)
		case <-changes:
			w.check(ctx)
		case <-tick.C:
			w.check(ctx)
		case <-ctx.Done():
			return w.end()
		}
	}
}

// begin installs the rules if it should. Rules that are there from before stand for a
// command that was given before: they are watched over too.
func (w *watcher) begin() error {
	start := w.settings.Start
	if !start {
		there, err := present()
		if err != nil {
			return err
		}
		start = there
	}
	if !start {
		w.logger.Info("interception waits for the command", "command", "fairlead-agent intercept enable")
		return nil
	}
	return w.enable()
}

func (w *watcher) enable() error {
	result, err := Enable(w.settings)
	if err != nil {
		return err
	}
	if result.Warning != "" {
		w.logger.Warn("interception", "warning", result.Warning)
	}
	w.logger.Info("interception is on", "backend", result.Backend, "changed", result.Changed)
	w.on, w.backend, w.ailing = true, nil, false
	chosen, _, err := find(w.settings.Backend)
	for _, f := range chosen {
		if f.name() == result.Backend {
			w.backend = f.backend
		}
	}
	return err
}

// obey does what a command says.
func (w *watcher) obey(c command) error {
	if c.name == tellDisable {
		_, err := Disable()
		if err == nil {
			w.on = false
			w.logger.Info("interception is off", "reason", "told to disable it")
		}
		return err
	}
	if c.fingerprint != fingerprintOf(w.settings) {
		return errors.New("the process that watches over interception here has other settings; start that one again with these")
	}
	return w.enable()
}

// check looks whether all is as it should be, and repairs what is not.
func (w *watcher) check(ctx context.Context) {
	if !w.on || w.backend == nil {
		return
	}
	have, err := w.backend.look()
	if err == nil {
		tables, _ := tablesFor(w.settings)
		families, right := compare(w.backend.want(tables), have)
		if right {
			w.ailing = false
			return
		}
		if !w.ailing {
			w.logger.Warn("rules of interception were changed and are set again", "missing", count(families, true), "surplus", count(families, false))
		}
		err = w.backend.apply(tables, have)
	}
	if err != nil && !w.ailing {
		w.ailing = true
		w.logger.Error("interception is not as it should be, and is tried again", "error", err)
	}
	pause := time.NewTimer(quiet)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

func count(families []Family, missing bool) int {
	n := 0
	for _, f := range families {
		if missing {
			n += len(f.Missing)
		} else {
			n += len(f.Surplus)
		}
	}
	return n
}

func (w *watcher) end() error {
	if w.settings.Keep {
		w.logger.Info("no longer watching over interception", "rules", "kept")
		return nil
	}
	if _, err := Disable(); err != nil {
		return err
	}
	w.logger.Info("no longer watching over interception", "rules", "removed")
	return nil
}

// changes tells at once when rules of nftables change, ours or others'. Where the kernel
// does not tell, looking now and then has to do.
func (w *watcher) changes() (<-chan struct{}, func()) {
	out := make(chan struct{}, 1)
	f, err := subscribe()
	if err != nil {
		w.logger.Debug("the kernel does not tell of changed rules", "reason", err)
		return out, func() {}
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			// What is lost because we are slow is a change too.
			if _, err := f.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { _ = f.Close() }
}

// subscribe opens a socket on which the kernel tells of changes of nftables.
func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "nftables"), nil
}
