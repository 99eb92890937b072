package restapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
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
	callTime = 15 * time.Second
)

// Config says what the API is served from. All fields but Logger are required.
type Config struct {
	// Store answers the requests.
	Store *store.Store
	// Verify returns who signed a request, or a *mesh.Error that says why the
	// signature does not hold: access.Service.Verify.
	Verify func(access.Request) (access.Caller, error)
	// Logger gets one line at level debug for each request, and one at level error
	// for each that failed through no fault of the caller. Nil logs nothing.
	Logger *slog.Logger
}

// New returns the handler of the App Mesh REST API. It answers every request,
// unknown paths included, in the API's form. Mount it at the root: it reads the
// path as it was sent.
func New(cfg Config) http.Handler {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &handler{store: cfg.Store, verify: cfg.Verify, log: log, routes: newRouter(operations)}
}

type handler struct {
	store  *store.Store
	verify func(access.Request) (access.Caller, error)
	log    *slog.Logger
	routes *router
}

// exchange is one request on its way through the handler.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	id    string // the request id
	op    string // the operation's name, "" while unknown
	who   string // the caller's ARN, "" while unknown
	start time.Time
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, id: uuid.NewString(), start: time.Now()}
	defer h.recover(x)
	out, err := h.serve(x)
	if err != nil {
		h.refuse(x, err)
		return
	}
	body, err := encode(out)
	if err != nil {
		h.refuse(x, err)
		return
	}
	h.write(x, http.StatusOK, "", body)
}

// serve does what a request asks for and returns the answer to be encoded.
func (h *handler) serve(x *exchange) (any, error) {
	path := x.r.URL.EscapedPath()
	rt, labels := h.routes.match(x.r.Method, path)
	if rt == nil {
		drain(x)
		return nil, mesh.Errorf(mesh.ErrUnknownOperation, "%s %s is not an operation of the App Mesh API", clip(x.r.Method), clip(path))
	}
	x.op = rt.op.Name
	body, err := readBody(x)
	if err != nil {
		return nil, err
	}
	caller, err := h.verify(access.HTTPRequest(x.r, body))
	if err != nil {
		return nil, err
	}
	x.who = caller.ARN
	if e := x.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "header Content-Encoding is %s, allowed is no encoding: send the body as it is", shorten(e))
	}
	in, err := decode(rt, &labels, x.r.URL.RawQuery, body, caller.Caller)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), callTime)
	defer cancel()
	return h.call(ctx, caller.Caller, in)
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
		h.log.ErrorContext(x.r.Context(), "request failed", "requestId", x.id, "operation", x.op, "error", err)
		refusal = internalError(x)
	}
	body, err := encode(errorBody{refusal.Message})
	if err != nil {
		body = []byte(`{}`)
	}
	h.write(x, refusal.Code.Status(), refusal.Code, body)
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
	h.log.ErrorContext(x.r.Context(), "request panicked", "requestId", x.id, "operation", x.op,
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
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	_, err := x.w.Write(body) // an error means that the client has gone
	h.log.LogAttrs(x.r.Context(), slog.LevelDebug, "request served",
		slog.String("requestId", x.id), slog.String("operation", x.op), slog.String("caller", x.who),
		slog.Int("status", status), slog.String("code", string(code)),
		slog.Duration("took", time.Since(x.start)), slog.Bool("delivered", err == nil))
}
