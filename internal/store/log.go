package store

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// sameMessages is how often one message is handed on in a second: while etcd reads its
// log anew at a start, it repeats one as fast as it can.
const sameMessages = 3

// zapLogger returns a logger for etcd that hands its warnings and errors on.
func zapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(zapcore.NewSamplerWithOptions(zapCore{log: log}, time.Second, sameMessages, 0))
}

// zapCore hands zap's entries of level warn and above to slog.
type zapCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// beside are messages of etcd that say nothing about a single member in this
// process: on its listeners and passwords, which it has none of, and on a try to
// note its version that comes too early in the first start, or too late, and is repeated.
var beside = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
	"failed to update cluster version",
}

// Enabled is part of zapcore.Core.
func (c zapCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && c.log.Enabled(context.Background(), level(l))
}

// With is part of zapcore.Core.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = slices.Concat(c.fields, fields)
	return c
}

// Check is part of zapcore.Core.
func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || slices.Contains(beside, e.Message) {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write is part of zapcore.Core.
func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(m)
	}
	attrs := []slog.Attr{slog.String("message", e.Message)}
	for _, k := range slices.Sorted(maps.Keys(m.Fields)) {
		attrs = append(attrs, slog.Any(k, m.Fields[k]))
	}
	c.log.LogAttrs(context.Background(), level(e.Level), "etcd", attrs...)
	return nil
}

// Sync is part of zapcore.Core.
func (c zapCore) Sync() error { return nil }

func level(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel {
		return slog.LevelError
	}
	return slog.LevelWarn
}
