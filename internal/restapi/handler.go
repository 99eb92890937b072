package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-mesh/fairlead/api"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 1 << 20
	// maxDrain and drainTime bound what is read and thrown away of a body that is
	// refused. A client that is still sending would otherwise see its connection
	// reset instead of the answer.
	maxDrain  = 8 << 20
	drainTime = 5 * time.Second
	// callTime bounds the work on one request once its body has been read.
	callTime = 10 * time.Second
)

// Config says what the two APIs are served from. Store and Verify are required.
type Config struct {
	// Store answers the requests.
	Store *store.Store
	// Access manages accounts, users, roles and keys. Nil: the operations of /v1 that
	// need it answer that they are not served.
	Access *access.Service
	// Verify returns who signed a request, or a *mesh.Error that says why the
	// signature does not hold: access.Service.Verify.
	Verify func(access.Request) (access.Caller, error)
	// Audit gets an event for each request, and is where ListEvents looks. Nil: none.
	Audit *audit.Log
	// Targets are the APIs of other rooms that are served beside the two.
	Targets []Target
	// Proxies returns the proxies that are connected in a mesh to any replica, and Problems
	// what in it cannot be obeyed. Nil: none are known.
	Proxies  func(ctx context.Context, l Look) Known[ProxyStatus]
	Problems func(ctx context.Context, l Look) Known[Problem]
	// QuotaUsage returns what was used of a quota, a policy. Nil: nothing was.
	QuotaUsage func(ctx context.Context, policy mesh.ID) (QuotaUsage, error)
	// Warnings returns what a policy that was made or changed does that may not be meant; nil
	// for nothing.
	Warnings func(o *mesh.Object) []string
	// Configuration returns what the proxies of a virtual node or gateway are sent: those
	// that are placed as the one of a connection is, "" for any. found is false if there
	// is no such object or connection. Nil: nothing is found.
	Configuration func(ctx context.Context, id mesh.ID, connection string) (c Configuration, found bool, err error)
	// Propagation says how far a change has come, and waits for it as it is asked to. Its
	// refusals are *mesh.Error. Nil: it is not served.
	Propagation func(context.Context, PropagationQuery) (Propagation, error)
	// Events asks the audit trails of all replicas, each from its token in from on, or all
	// from the newest event on if from is nil. missing are those that did not answer. Nil:
	// Audit is the only one.
	Events func(ctx context.Context, q audit.Query, from map[string]string) (parts []audit.Part, missing []string, err error)
	// CA is the certificate authority of workloads. Nil: its operations fail.
	CA *ca.Service
	// BundleStreams returns how many agents of a mesh are connected for its trust bundle to
	// any replica. Nil: none are known.
	BundleStreams func(ctx context.Context, m mesh.MeshID) BundleStreams
	// Now is the clock that rates are measured with; nil for time.Now.
	Now func() time.Time
	// Logger gets one line at level debug for each request, and one at level error
	// for each that failed through no fault of the caller. Nil logs nothing.
	Logger *slog.Logger
}

// New returns the handler of the App Mesh REST API and of /v1. It answers every
// request, unknown paths included, in the APIs' form. Mount it at the root: it reads
// the path as it was sent.
func New(cfg Config) http.Handler {
	h := &handler{
		store: cfg.Store, access: cfg.Access, verify: cfg.Verify, events: cfg.Audit,
		targets: cfg.Targets, proxies: cfg.Proxies, problems: cfg.Problems, warnings: cfg.Warnings, quotaUsage: cfg.QuotaUsage, configuration: cfg.Configuration, log: cfg.Logger,
		ca: cfg.CA, bundleStreams: cfg.BundleStreams, trails: cfg.Events, propagation: cfg.Propagation,
		routes: newRouter(operations, v1.Operations), sts: newSTSRoutes(),
		rates: newRates(cfg.Now, cfg.Store.Quotas),
	}
	if h.trails == nil {
		h.trails = h.ownTrail
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

type handler struct {
	store    *store.Store
	access   *access.Service
	verify   func(access.Request) (access.Caller, error)
	events   *audit.Log
	targets  []Target
	proxies  func(ctx context.Context, l Look) Known[ProxyStatus]
	problems func(ctx context.Context, l Look) Known[Problem]

	quotaUsage func(ctx context.Context, policy mesh.ID) (QuotaUsage, error)
	warnings   func(o *mesh.Object) []string
	trails     func(ctx context.Context, q audit.Query, from map[string]string) ([]audit.Part, []string, error)
	log        *slog.Logger
	routes     *router
	sts        map[string]*route // the query API's, by their names
	rates      *rates

	configuration func(ctx context.Context, id mesh.ID, connection string) (Configuration, bool, error)
	propagation   func(context.Context, PropagationQuery) (Propagation, error)
	ca            *ca.Service
	bundleStreams func(ctx context.Context, m mesh.MeshID) BundleStreams
}

// exchange is one request on its way through the handler.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	id     string // the request id
	start  time.Time
	addr   netip.Addr    // where it comes from
	target *Target       // of the API that it is for, nil for those of this package
	sts    bool          // it is for the query API
	form   url.Values    // of the query API
	route  *route        // nil while unknown
	caller access.Caller // empty while unknown
	// voucher says for an unsigned request who has vouched for whom, once that is known.
	voucher access.Voucher
	// assumed is the session that was made for the caller, if one was.
	assumed access.Principal

	// What the audit log is told, as far as it is known.
	in         *input          // of the App Mesh API
	parameters json.RawMessage // of /v1, and of targets
	mesh       mesh.MeshID     // of /v1: the mesh that is meant
	resource   string          // of /v1, and of targets: the ARN of what is meant
}

// operation returns the operation's name, "" while unknown.
func (x *exchange) operation() string {
	if x.route == nil {
		return ""
	}
	return x.route.name()
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, id: uuid.NewString(), start: time.Now()}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.addr = from.Addr().Unmap()
	}
	defer h.recover(x)
	path := r.URL.EscapedPath()
	if path == documentPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		h.write(x, http.StatusOK, "", api.OpenAPI)
		return
	}
	out, err := h.serve(x, path)
	if err != nil {
		h.refuse(x, err)
		return
	}
	body, err := encode(out)
	if err != nil {
		h.refuse(x, err)
		return
	}
	h.audit(x, out, body, nil)
	x.tellRevision(out)
	if x.sts {
		if body, err = stsBody(x, out); err != nil {
			h.refuse(x, fmt.Errorf("writing an answer: %w", err))
			return
		}
	}
	h.write(x, http.StatusOK, "", body)
}

// serve does what a request asks for and returns the answer to be encoded.
func (h *handler) serve(x *exchange, path string) (any, error) {
	var labels params
	x.sts = isSTS(x.r, path)
	if x.target, x.route = h.matchTarget(x.r, path); x.target == nil {
		x.route, labels = h.routes.match(x.r.Method, path)
	}
	body, err := h.admit(x, path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), callTime)
	defer cancel()
	if x.target != nil {
		return h.serveTarget(ctx, x, body)
	}
	if x.sts {
		if body, err = x.route.sts.input(x.route.operation, x.form); err != nil {
			return nil, err
		}
	}
	if x.route.own != nil {
		return h.serveOwn(ctx, x, &labels, body)
	}
	x.in, err = decode(x.route, &labels, x.r.URL.RawQuery, body, x.caller.Caller)
	if err != nil {
		return nil, err
	}
	return h.call(ctx, x.caller.Caller, x.in)
}

// admit finds out who made a request, refuses those who may make none or make too many,
// and returns the body.
func (h *handler) admit(x *exchange, path string) ([]byte, error) {
	from := h.rates.source(x.addr, x.r.Header.Get("Authorization"))
	if err := h.rates.blocked(from); err != nil {
		return nil, err
	}
	body, err := h.authenticate(x, path)
	if err != nil {
		h.rates.failed(from)
		return nil, err
	}
	if x.route.unsigned() {
		err = h.rates.attempt(from)
	} else {
		err = h.rates.admit(x.caller.Account, x.caller.KeyID, x.route.readOnly())
	}
	if err != nil {
		return nil, err
	}
	if e := x.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "header Content-Encoding is %s, allowed is no encoding: send the body as it is", shorten(e))
	}
	return body, nil
}

// authenticate reads the body and finds out who signed the request.
func (h *handler) authenticate(x *exchange, path string) (body []byte, err error) {
	if x.sts { // the body names the operation
		if body, err = readBody(x); err != nil {
			return nil, err
		}
		if x.form, x.route, err = h.matchSTS(body); err != nil {
			return nil, err
		}
		return body, h.identify(x, body)
	}
	if x.route == nil {
		drain(x)
		what := "the App Mesh API"
		switch {
		case x.target != nil:
			return nil, mesh.Errorf(mesh.ErrUnknownOperation, "%s is not an operation of the API", v1.Clip(x.r.Header.Get(targetHeader)))
		case ownPath(path):
			what = "Fairlead's own API"
		}
		return nil, mesh.Errorf(mesh.ErrUnknownOperation, "%s %s is not an operation of %s", v1.Clip(x.r.Method), v1.Clip(path), what)
	}
	if body, err = readBody(x); err != nil {
		return nil, err
	}
	return body, h.identify(x, body)
}

// identify finds out who signed the request, if it needs a signature.
func (h *handler) identify(x *exchange, body []byte) (err error) {
	if x.route.unsigned() {
		return nil
	}
	req := access.HTTPRequest(x.r, body)
	req.SourceIP, req.Secure, req.Service = x.addr, x.r.TLS != nil, x.route.service()
	x.caller, err = h.verify(req)
	return err
}

// readBody reads the body whole. A declared length over the bound is refused before
// anything is read, so that a client which waits for "100 Continue" sends nothing.
func readBody(x *exchange) ([]byte, error) {
	tooLarge := mesh.Errorf(mesh.ErrRequestTooLarge, "the request body is larger than allowed: at most %d bytes (1 MiB)", maxBody)
	if x.r.ContentLength > maxBody {
		drain(x)
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
	if err != nil {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "the request body could not be read to its end")
	}
	if len(body) > maxBody {
		drain(x)
		return nil, tooLarge
	}
	return body, nil
}

// drain reads some of a body that is not wanted, for a bounded time.
func drain(x *exchange) {
	if x.r.Header.Get("Expect") != "" {
		return // the client waits for the answer before it sends
	}
	// A writer that cannot set deadlines is a test's recorder, which needs none.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, x.r.Body, maxDrain)
}

// refuse answers with an error. It is the one place where errors become statuses.
func (h *handler) refuse(x *exchange, err error) {
	var refusal *mesh.Error
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		refusal = mesh.Errorf(mesh.ErrServiceUnavailable, "the request could not be done in time, try again")
	default:
		h.log.ErrorContext(x.r.Context(), "request failed", "requestId", x.id, "operation", x.operation(), "error", err)
		refusal = internalError(x)
	}
	if x.sts {
		refusal, status, body := stsWords(x, err, refusal)
		h.audit(x, nil, body, refusal)
		h.write(x, status, refusal.Code, body)
		return
	}
	status, answer := refusal.Code.Status(), any(errorBody{refusal.Message})
	if x.target != nil {
		refusal, status, answer = x.target.inWordsOf(x, err, refusal)
	}
	body, err := encode(answer)
	if err != nil {
		body = []byte(`{}`)
	}
	h.audit(x, nil, body, refusal)
	h.write(x, status, refusal.Code, body)
}

// internalError says nothing of the cause, which is in the log.
func internalError(x *exchange) *mesh.Error {
	return mesh.Errorf(mesh.ErrInternalServerError, "internal error: the server's log has it under request id %s", x.id)
}

// recover answers a request whose handling panicked, and goes on.
func (h *handler) recover(x *exchange) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	h.log.ErrorContext(x.r.Context(), "request panicked", "requestId", x.id, "operation", x.operation(),
		"error", fmt.Sprint(p), "stack", string(debug.Stack()))
	h.refuse(x, internalError(x))
}

// write sends the answer. The headers are spelt as AWS spells them, which HTTP/1
// shows and Go's canonical form would not keep.
func (h *handler) write(x *exchange, status int, code mesh.Code, body []byte) {
	header := x.w.Header()
	header["x-amzn-RequestId"] = []string{x.id}
	if code != "" {
		header["x-amzn-ErrorType"] = []string{string(code)}
	}
	header.Set("Content-Type", jsonType)
	switch {
	case x.target != nil:
		header.Set("Content-Type", targetType)
	case x.sts:
		header.Set("Content-Type", xmlType)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	_, err := x.w.Write(body) // an error means that the client has gone
	h.log.LogAttrs(x.r.Context(), slog.LevelDebug, "request served",
		slog.String("requestId", x.id), slog.String("operation", x.operation()), slog.String("caller", x.caller.ARN),
		slog.Int("status", status), slog.String("code", string(code)),
		slog.Duration("took", time.Since(x.start)), slog.Bool("delivered", err == nil))
}
