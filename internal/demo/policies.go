package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// What the policies of the story ask for.
const (
	faultPercent = 20 // of blue's requests, each of which is tried again
	tries        = 10 // at most, beside the first
	limitedTo    = 5  // requests a second of one caller
	greedyCalls  = 60 // that it makes
	quotaOf      = 40 // requests of a caller in a day
	quotaCalls   = 40 // each second, that it makes
	quotaTime    = 9 * time.Second
)

// callerHeader is the header by which callers of front say who they are, for colour to hear.
const callerHeader = "x-caller"

// shown is what the policies have shown.
type shown struct {
	copies, faults    int
	mirrored, retried row
	refused           bool
	passed            int // calls of the greedy caller
	spent             int // calls of the caller that has a quota
	used, left        int // as the server says of them
	gone              bool
}

// policies copies traffic to green, has blue fail behind retries, refuses a caller and limits
// another, all under traffic that must not notice.
func (d *demo) policies(ctx context.Context) error {
	d.screen.title("Policies, which App Mesh never had, under the same traffic")
	d.screen.header()
	for _, step := range []func(context.Context) error{d.mirror, d.hideFaults, d.refuse, d.limit, d.quota} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	left, err := d.mesh.own.ListPolicies(ctx, &client.ListPoliciesInput{MeshName: meshName})
	if err != nil {
		return blame(d.stack.server, err)
	}
	d.facts.shown.gone = len(left.Policies) == 0
	return nil
}

// mirror copies all requests to green, which nobody notices.
func (d *demo) mirror(ctx context.Context) error {
	// Copies may not go where the route leads.
	if err := d.mesh.update(ctx, target(blueNode, d.weights.blue)); err != nil {
		return blame(d.stack.server, fmt.Errorf("updating the route: %w", err))
	}
	end, err := d.policy(ctx, "try-green", client.PolicySpec{
		Target: client.PolicyTarget{Route: &client.PolicyRouteTarget{VirtualRouterName: routerName, RouteName: routeName}},
		Action: client.PolicyAction{Mirror: &client.MirrorAction{Percentage: 100, To: client.MirrorDestination{VirtualNode: &client.MirrorNode{VirtualNodeName: greenNode}}}},
	})
	if err != nil {
		return err
	}
	f := &d.facts.shown
	f.copies, err = d.during(ctx, greenNode, `^http\.ingress[^:]*\.downstream_rq_total$`, func() (err error) {
		f.mirrored, err = d.measure(ctx, "mirrored", time.Now(), d.weights)
		return err
	})
	if err != nil {
		return err
	}
	d.screen.detail(plain, fmt.Sprintf("green was sent %s copies; what it answered was dropped", thousands(f.copies)))
	return end(ctx)
}

// hideFaults has blue fail, and its callers try again.
func (d *demo) hideFaults(ctx context.Context) error {
	if err := d.mesh.retry(ctx, tries, d.weights); err != nil {
		return blame(d.stack.server, fmt.Errorf("updating the route: %w", err))
	}
	if err := d.everywhere(ctx); err != nil {
		return err
	}
	end, err := d.policy(ctx, "blue-fails", client.PolicySpec{
		Target: client.PolicyTarget{VirtualNode: &client.PolicyNodeTarget{VirtualNodeName: blueNode}},
		Action: client.PolicyAction{Fault: &client.FaultAction{Abort: &client.FaultAbort{Percentage: faultPercent, HttpStatus: http.StatusServiceUnavailable}}},
	})
	if err != nil {
		return err
	}
	f := &d.facts.shown
	f.faults, err = d.during(ctx, blueNode, `^http\.ingress[^:]*\.fault\.aborts_injected$`, func() (err error) {
		f.retried, err = d.measure(ctx, "faults", time.Now(), d.weights)
		return err
	})
	if err != nil {
		return err
	}
	d.screen.detail(plain, fmt.Sprintf("blue failed %s times (%d %% of its requests), and the route's retries hid it", thousands(f.faults), faultPercent))
	if err := end(ctx); err != nil {
		return err
	}
	if err := d.mesh.shift(ctx, d.weights); err != nil {
		return blame(d.stack.server, fmt.Errorf("updating the route: %w", err))
	}
	return d.everywhere(ctx)
}

// refuse denies a caller by a header.
func (d *demo) refuse(ctx context.Context) error {
	const who = "stranger"
	end, err := d.policy(ctx, "no-strangers", caller(who, client.PolicyAction{Access: &client.AccessAction{Rule: "deny"}}))
	if err != nil {
		return err
	}
	_, err = d.callAs(ctx, who)
	_, others := d.callAs(ctx, "friend")
	d.facts.shown.refused = err != nil && strings.Contains(err.Error(), "status 403") && others == nil
	d.screen.line("")
	d.screen.line("  %s a stranger is refused: %v", d.mark(d.facts.shown.refused), err)
	return end(ctx)
}

// limit lets a caller through so many times a second.
func (d *demo) limit(ctx context.Context) error {
	const who = "greedy"
	end, err := d.policy(ctx, "not-too-much", caller(who, client.PolicyAction{RateLimit: &client.RateLimitAction{Requests: limitedTo, Per: "second", By: &client.RateLimitBy{Header: callerHeader}}}))
	if err != nil {
		return err
	}
	began := time.Now()
	for range greedyCalls {
		passed, err := d.passes(ctx, who)
		if err != nil {
			return err
		}
		if passed {
			d.facts.shown.passed++
		}
	}
	took := time.Since(began)
	d.screen.line("  %s a greedy caller may ask %d times a second: of %d calls in %s %d came through", d.mark(d.facts.shown.limited()), limitedTo, greedyCalls, span(took), d.facts.shown.passed)
	return end(ctx)
}

// caller is what is done with the requests of a caller to blue.
func caller(who string, action client.PolicyAction) client.PolicySpec {
	return client.PolicySpec{
		Target: client.PolicyTarget{VirtualNode: &client.PolicyNodeTarget{VirtualNodeName: blueNode}},
		From:   []client.PolicyClient{{Headers: []client.HttpRouteHeader{{Name: callerHeader, Match: &client.HeaderMatchMethod{Exact: who}}}}},
		Action: action,
	}
}

// limited reports whether the greedy caller was held up. How many came through depends on how
// long its calls took; that is what the tests of limits measure.
func (s *shown) limited() bool { return s.passed >= limitedTo && s.passed < greedyCalls }

// quota lets a caller through so many times a day, over all of blue's proxies, and reads what is
// left.
func (d *demo) quota(ctx context.Context) error {
	const who, name = "metered", "so-many-a-day"
	end, err := d.policy(ctx, name, caller(who, client.PolicyAction{Quota: &client.QuotaAction{Requests: quotaOf, Per: "day", By: &client.QuotaBy{Header: callerHeader}}}))
	if err != nil {
		return err
	}
	calls, s := 0, &d.facts.shown
	tick := time.NewTicker(time.Second / quotaCalls)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < quotaTime; calls++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		passed, err := d.passes(ctx, who)
		if err != nil {
			return err
		}
		if passed {
			s.spent++
		}
	}
	usage, err := d.mesh.own.DescribeQuotaUsage(ctx, &client.DescribeQuotaUsageInput{MeshName: meshName, PolicyName: name, Key: who})
	if err != nil {
		return blame(d.stack.server, err)
	}
	for _, k := range usage.Keys {
		s.used, s.left = k.Used, k.Left
	}
	d.screen.line("  %s a caller has a quota of %d requests a day: of %d calls %d came through, the server says that %d are used and %d left", d.mark(s.metered()), quotaOf, calls, s.spent, s.used, s.left)
	return end(ctx)
}

// metered reports whether the quota was kept, and the server knows of it: some requests are on
// their way to it, and at midnight a quota begins anew.
func (s *shown) metered() bool {
	return s.spent >= quotaOf*8/10 && s.spent <= quotaOf*12/10 && s.used > 0
}

func (d *demo) mark(good bool) string {
	if good {
		return d.screen.good()
	}
	return d.screen.bad()
}

// policy makes a policy and waits until all Envoys have it. What it returns ends it likewise.
func (d *demo) policy(ctx context.Context, name string, spec client.PolicySpec) (end func(context.Context) error, err error) {
	if _, err := d.mesh.own.CreatePolicy(ctx, &client.CreatePolicyInput{MeshName: meshName, PolicyName: name, Spec: spec}); err != nil {
		return nil, blame(d.stack.server, fmt.Errorf("creating policy %s: %w", name, err))
	}
	return func(ctx context.Context) error {
		if _, err := d.mesh.own.DeletePolicy(ctx, &client.DeletePolicyInput{MeshName: meshName, PolicyName: name}); err != nil {
			return blame(d.stack.server, fmt.Errorf("deleting policy %s: %w", name, err))
		}
		return d.everywhere(ctx)
	}, d.everywhere(ctx)
}

// everywhere waits until all Envoys have what the mesh says.
func (d *demo) everywhere(ctx context.Context) error {
	out, err := d.mesh.own.DescribePropagation(ctx, &client.DescribePropagationInput{MeshName: meshName, Wait: int(startLimit.Seconds())})
	if err != nil {
		return blame(d.stack.server, err)
	}
	if p := out.Propagation; p.Pending+p.Rejected > 0 {
		return fmt.Errorf("%d Envoys have not got what the mesh says, and %d reject it", p.Pending, p.Rejected)
	}
	return nil
}

// during returns by how much a counter of a node's Envoy has grown while something was done.
func (d *demo) during(ctx context.Context, node, counter string, f func() error) (int, error) {
	before, err := d.counter(ctx, node, counter)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := d.counter(ctx, node, counter)
	return after - before, err
}

// counters are lines such as "http.ingress.downstream_rq_total: 12".
var counters = regexp.MustCompile(`(?m): (\d+)$`)

// counter adds up the counters of a node's Envoy whose names match an expression.
func (d *demo) counter(ctx context.Context, node, expression string) (sum int, err error) {
	for i, e := range d.stack.instances() {
		if e.node != node {
			continue
		}
		text, err := d.stack.get(ctx, "http://"+d.stack.plan.admin(e.at)+"/stats?filter="+url.QueryEscape(expression))
		if err != nil {
			return 0, blame(d.stack.agents[i], err)
		}
		for _, m := range counters.FindAllStringSubmatch(text, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return 0, fmt.Errorf("reading the counter %s: %w", expression, err)
			}
			sum += n
		}
		return sum, nil
	}
	return 0, errors.New("no instance is of " + node)
}

// callAs asks front once, as a caller.
func (d *demo) callAs(ctx context.Context, who string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneQuestion)
	defer cancel()
	target, dial := d.stack.ground.way()
	c := newClient(nil, dial)
	defer c.CloseIdleConnections()
	return askAs(ctx, c, target, who)
}

// passes asks front once, as a caller, and reports whether no limit and no quota refused it.
func (d *demo) passes(ctx context.Context, who string) (bool, error) {
	_, err := d.callAs(ctx, who)
	switch {
	case err == nil:
		return true, nil
	case strings.Contains(err.Error(), "status 429"):
		return false, nil
	}
	return false, fmt.Errorf("calling as %s: %w", who, err)
}
