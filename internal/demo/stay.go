package demo

import (
	"context"
	"fmt"
	"time"
)

// stayRate is how many requests a second go on while the demo stays.
const stayRate = 50

// stay keeps everything up until ctx ends, and says how to shift traffic by hand.
func (d *demo) stay(ctx context.Context) error {
	if !d.Stay {
		return nil
	}
	d.screen.title("Yours now: three lines for another terminal shift the traffic. Ctrl-C ends everything.")
	d.screen.line("")
	// Version 1 of the AWS CLI knows AWS_DEFAULT_REGION only; all others prefer AWS_REGION.
	d.screen.line("export AWS_ENDPOINT_URL_APP_MESH=http://%s AWS_SHARED_CREDENTIALS_FILE=%s AWS_REGION=%s AWS_DEFAULT_REGION=%s", d.stack.plan.api(), d.stack.credentials(), region, region)
	d.screen.line("aws appmesh update-route --mesh-name %s --virtual-router-name %s --route-name %s --spec '%s'", meshName, routerName, routeName, cliSpec(weights{50, 50}))
	d.screen.line("for i in $(seq 20); do curl -s %s; done | sort | uniq -c", d.stack.url(d.stack.plan.front))
	if line := d.stack.ground.byHand(); line != "" {
		d.screen.line("# and, as root, what front does, which knows of no proxy:\n%s", line)
	}
	d.screen.line("")
	d.load = d.stack.startLoad(stayRate)
	d.watch(ctx)
	if d.asked() {
		return nil // as the reader wanted
	}
	return context.Cause(ctx)
}

// watch shows the shares as they change, on a terminal, until ctx ends.
func (d *demo) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.screen.bottom("")
			return
		case <-tick.C:
			t := count(d.load.take())
			d.screen.bottom(fmt.Sprintf("  %d requests in the last second: blue %.0f %%, green %.0f %%, %d failed", t.total, t.share(blue), t.share(green), t.failed))
		}
	}
}

// cliSpec is routeSpec's as the AWS CLI takes it, without the retry policy: App Mesh's
// default holds then.
func cliSpec(w weights) string {
	return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[`+
		`{"virtualNode":%q,"weight":%d},{"virtualNode":%q,"weight":%d}]}}}`, blueNode, w.blue, greenNode, w.green)
}
