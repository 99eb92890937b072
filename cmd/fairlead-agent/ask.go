package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent"
)

func readyCommand(flags *flag.FlagSet) func(streams, []string) int {
	timeout := flags.Duration("timeout", 0, "how long to go on asking; 0 is once")
	poll := flags.Bool("poll", false, "ask as often and for as long as APPNET_AGENT_POLL_ENVOY_READINESS_… say")
	return func(s streams, _ []string) int {
		return ask(s, func(p agent.Probe) error {
			interval := time.Duration(0)
			if *poll {
				*timeout, interval = p.Timeout, p.Interval
				if interval == 0 {
					*timeout = 0
				}
			}
			if *timeout <= 0 {
				return p.Ready(context.Background())
			}
			return p.Wait(context.Background(), interval, *timeout)
		})
	}
}

func waitCommand(flags *flag.FlagSet) func(streams, []string) int {
	timeout := flags.Duration("timeout", -1, "how long to wait; 0 is for ever")
	return func(s streams, _ []string) int {
		return ask(s, func(p agent.Probe) error {
			if *timeout < 0 {
				*timeout = p.Timeout
			}
			return p.Wait(context.Background(), 0, *timeout)
		})
	}
}

// ask asks, and says the answer in one line.
func ask(s streams, question func(agent.Probe) error) int {
	p, err := agent.ReadProbe(os.LookupEnv)
	if err != nil {
		return failed(s.err, err)
	}
	if err := question(p); err != nil {
		fmt.Fprintf(s.err, "not ready: %v\n", err)
		return exitFailed
	}
	fmt.Fprintln(s.out, "ready")
	return exitDone
}

func statusCommand(flags *flag.FlagSet) func(streams, []string) int {
	asJSON := flags.Bool("json", false, "print it as the agent's server tells it")
	return func(s streams, _ []string) int {
		p, err := agent.ReadProbe(os.LookupEnv)
		if err != nil {
			return failed(s.err, err)
		}
		r, err := p.Status(context.Background())
		if err != nil {
			return failed(s.err, err)
		}
		if !*asJSON {
			fmt.Fprint(s.out, r.Text())
			return exitDone
		}
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return failed(s.err, err)
		}
		fmt.Fprintln(s.out, string(text))
		return exitDone
	}
}
