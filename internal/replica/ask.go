package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Bounds of a question and of an answer, in bytes.
const (
	maxQuestion = 1 << 20
	maxAnswer   = 64 << 20
)

// Answer is what another replica said, or why it did not.
type Answer struct {
	// Replica names it: Member.Name.
	Replica string
	// Body is its answer; nil if Err says that there is none.
	Body json.RawMessage
	Err  error
}

// Ask asks all other replicas a question at once, and returns what each answered, in the
// order of their names. It takes no longer than Config.Timeout. in is sent as JSON.
func (s *Service) Ask(ctx context.Context, question string, in any) []Answer {
	return s.AskEach(ctx, question, func(Member) (any, bool) { return in, true })
}

// AskPatiently is Ask of a question that may take a while to be answered: wait longer than
// others, a minute at most.
func (s *Service) AskPatiently(ctx context.Context, question string, in any, wait time.Duration) []Answer {
	return s.askEach(ctx, question, func(Member) (any, bool) { return in, true }, max(0, min(wait, maxPatience)))
}

// AskEach is Ask with a question of its own for each replica; those that in is false for
// are not asked.
func (s *Service) AskEach(ctx context.Context, question string, in func(Member) (any, bool)) []Answer {
	return s.askEach(ctx, question, in, 0)
}

// maxPatience bounds how much longer than others a question may take.
const maxPatience = time.Minute

func (s *Service) askEach(ctx context.Context, question string, in func(Member) (any, bool), patience time.Duration) []Answer {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout+patience)
	defer cancel()
	var asked []Member
	var questions []any
	for _, m := range s.Others() {
		if q, ok := in(m); ok {
			asked, questions = append(asked, m), append(questions, q)
		}
	}
	answers := make([]Answer, len(asked))
	var wg sync.WaitGroup
	for i, m := range asked {
		wg.Go(func() {
			body, err := s.ask(ctx, m, question, questions[i], patience)
			if err != nil {
				err = fmt.Errorf("asking replica %s: %w", m.Name(), err)
				s.complain(ctx, m, question, err)
			}
			s.met.asked.WithLabelValues(question, strconv.FormatBool(err == nil)).Inc()
			answers[i] = Answer{Replica: m.Name(), Body: body, Err: err}
		})
	}
	wg.Wait()
	return answers
}

// complainEvery is how often is logged that a replica cannot be asked.
const complainEvery = time.Minute

// complain logs that a replica did not answer, unless nobody waits for its answer any more
// or it was said a short while ago.
func (s *Service) complain(ctx context.Context, m Member, question string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	s.mu.Lock()
	now := time.Now()
	say := now.Sub(s.said[m.ID]) >= complainEvery
	if say {
		maps.DeleteFunc(s.said, func(_ string, at time.Time) bool { return now.Sub(at) >= complainEvery })
		s.said[m.ID] = now
	}
	s.mu.Unlock()
	if say {
		s.log.WarnContext(ctx, "another replica does not answer", "replica", m.Name(), "question", question, "error", err)
	}
}

func (s *Service) ask(ctx context.Context, m Member, question string, in any, patience time.Duration) (json.RawMessage, error) {
	if m.Address == "" {
		return nil, errors.New("it does not listen for other replicas (--peer-listen)")
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	if len(body) > maxQuestion {
		return nil, fmt.Errorf("the question has %d bytes, at most %d are allowed", len(body), maxQuestion)
	}
	to := url.URL{Scheme: "https", Host: m.Address, Path: askPath + question}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(replicaHeader, m.ID)
	if patience > 0 {
		req.Header.Set(patienceHeader, patience.String())
	}
	resp, err := s.peer.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s: %s", resp.Status, bytes.TrimSpace(answer[:min(len(answer), 500)]))
	}
	return answer, nil
}
