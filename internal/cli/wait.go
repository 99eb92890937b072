package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// DefaultWait is how long a command waits for proxies if it is not told.
const DefaultWait = time.Minute

const (
	// longestAsk bounds one question to the server, progressAsk one where somebody watches.
	longestAsk  = 20 * time.Second
	progressAsk = time.Second
	// incompletePause is how long to wait for a replica that did not answer.
	incompletePause = 500 * time.Millisecond
	// mostBehind is how many proxies are told of, by a line each.
	mostBehind = 5
)

// written are the newest revisions that a session has written at, by mesh.
type written struct {
	mu       sync.Mutex
	revision map[Ref]int64
}

func (w *written) note(m Ref, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.revision == nil {
		w.revision = map[Ref]int64{}
	}
	w.revision[m] = max(w.revision[m], revision)
}

func (w *written) in(m Ref) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.revision[m]
}

// noting notes the revision that a write of an object is answered with.
func (s *Session) noting(r Ref) func(*appmesh.Options) {
	note := middleware.DeserializeMiddlewareFunc("FairleadRevision", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && err == nil {
			if n, bad := strconv.ParseInt(resp.Header.Get("x-fairlead-revision"), 10, 64); bad == nil {
				s.written.note(r.mesh(), n)
			}
		}
		return out, meta, err
	})
	return addMiddleware(func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(note, middleware.After)
	})
}

// await waits until all connected proxies of meshes have what the session has written, or
// the newest of a mesh that it has not written to, and tells of it. The error says who has
// not.
func (s *Session) await(ctx context.Context, term Terminal, meshes []Ref, limit time.Duration) error {
	if limit <= 0 {
		return nil
	}
	begin := term.now()
	slices.SortFunc(meshes, compareRefs)
	var errs []error
	for _, m := range slices.Compact(meshes) {
		w := waiting{Session: s, term: term, mesh: m, begin: begin, end: begin.Add(limit)}
		errs = append(errs, w.run(ctx))
	}
	return errors.Join(errs...)
}

// waiting is the wait for the proxies of one mesh.
type waiting struct {
	*Session
	term       Terminal
	mesh       Ref
	begin, end time.Time
}

func (w *waiting) run(ctx context.Context) error {
	in := &client.DescribePropagationInput{MeshName: w.mesh.Mesh, MeshOwner: w.mesh.Owner, Revision: int(w.written.in(w.mesh)), Limit: 100}
	longest := min(longestAsk, w.timeout/2)
	if w.term.Progress {
		longest = min(longest, progressAsk)
	}
	defer w.progress("")
	for {
		left := w.end.Sub(w.term.now())
		in.Wait = int((max(0, min(left, longest)) + time.Second - 1) / time.Second)
		out, err := ask(ctx, w.Session, w.own.DescribePropagation, in)
		if err != nil {
			return fmt.Errorf("waiting for the proxies of mesh %s: %w", w.mesh.Mesh, err)
		}
		p := &out.Propagation
		in.Revision = p.Revision // the one that was the newest at the beginning
		if p.Pending == 0 && len(p.Incomplete) == 0 || left <= 0 {
			w.progress("")
			return w.tell(p)
		}
		w.progress(fmt.Sprintf("mesh %s: %d of %d proxies have it, %d pending", w.mesh.Mesh, p.Current, p.Proxies, p.Pending))
		if p.Pending == 0 {
			if err := pause(ctx, min(left, incompletePause)); err != nil {
				return err
			}
		}
	}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errInterrupted
	case <-timer.C:
		return nil
	}
}

// progress writes a line in the place of the one before, on a terminal.
func (w *waiting) progress(line string) {
	if w.term.Progress {
		fmt.Fprintf(w.term.Err, "\r\x1b[K%s", printable(cut(line)))
	}
}

// tell prints how far a change has come. It returns an error unless all connected proxies
// have it.
func (w *waiting) tell(p *client.Propagation) error {
	took := fmt.Sprintf("revision %d, %.2f s", p.Revision, w.term.now().Sub(w.begin).Seconds())
	line := fmt.Sprintf("mesh %s: %d of %s it (%s)", w.mesh.Mesh, p.Current, plural(p.Proxies, "proxy has", "proxies have"), took)
	if p.Proxies == 0 {
		line = fmt.Sprintf("mesh %s: no proxy is connected (%s)", w.mesh.Mesh, took)
	}
	if p.Current == p.Proxies && len(p.Incomplete) == 0 {
		w.term.printf("%s\n", printable(line))
		return nil
	}
	for _, b := range p.Behind[:min(len(p.Behind), mostBehind)] {
		fmt.Fprintf(w.term.Err, "%s %s: %s\n", printable(shortARN(b.ARN)+" at "+b.Address), strings.ToLower(b.State), printable(b.Reason))
	}
	var why []string
	for _, c := range []struct {
		n    int
		what string
	}{{p.Rejected, "rejected"}, {p.Pending, "pending"}} {
		if i := slices.IndexFunc(p.Behind, func(b client.ProxyBehind) bool { return strings.EqualFold(b.State, c.what) }); c.n > 0 && i >= 0 {
			why = append(why, fmt.Sprintf("%d %s: %s", c.n, c.what, p.Behind[i].Reason))
		}
	}
	for _, f := range p.Incomplete {
		why = append(why, fmt.Sprintf("replica %s did not answer for its proxies: %s", f.Replica, f.Reason))
	}
	return errors.New(printable(line + ", " + strings.Join(why, "; ")))
}

// changedMeshes returns the meshes of objects, but not those that are deleted themselves.
func changedMeshes(changes []*change) []Ref {
	gone := map[Ref]bool{}
	for _, c := range changes {
		gone[c.Ref] = c.Kind == mesh.KindMesh && c.verb == deleted
	}
	var out []Ref
	for _, c := range changes {
		if m := c.mesh(); !gone[m] {
			out = append(out, m)
		}
	}
	return out
}
