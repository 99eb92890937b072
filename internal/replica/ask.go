package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
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
	others := s.Others()
	if len(others) == 0 {
		return nil
	}
	body, err := json.Marshal(in)
	if err == nil && len(body) > maxQuestion {
		err = fmt.Errorf("the question has %d bytes, at most %d are allowed", len(body), maxQuestion)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	answers := make([]Answer, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		wg.Go(func() {
			a := Answer{Replica: m.Name(), Err: err}
			if a.Err == nil {
				a.Body, a.Err = s.ask(ctx, m, question, body)
			}
			if a.Err != nil {
				a.Err = fmt.Errorf("asking replica %s: %w", a.Replica, a.Err)
				s.log.WarnContext(ctx, "another replica cannot be asked", "replica", a.Replica, "question", question, "error", a.Err)
			}
			s.met.asked.WithLabelValues(question, strconv.FormatBool(a.Err == nil)).Inc()
			answers[i] = a
		})
	}
	wg.Wait()
	return answers
}

func (s *Service) ask(ctx context.Context, m Member, question string, body []byte) (json.RawMessage, error) {
	if m.Address == "" {
		return nil, errors.New("it does not listen for other replicas (--peer-listen)")
	}
	to := url.URL{Scheme: "https", Host: m.Address, Path: askPath + question}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(replicaHeader, m.ID)
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
