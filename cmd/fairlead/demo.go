package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/demo"
)

func newDemo() *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a canary on real Envoys, all on this machine",
		Long: "Start a control plane, a small application and an Envoy beside each of its processes;\n" +
			"shift traffic from one version to the other under load; kill the control plane and start\n" +
			"it again; end everything, and say what was shown.\n\n" +
			"As root each process of the application has a network namespace of its own, in which the\n" +
			"kernel hands its connections to its Envoy, and knows of no proxy. Otherwise it has a loopback\n" +
			"address, and is told of its Envoy as its proxy. --network asks for the one or the other.\n\n" +
			"Needs fairlead-agent beside this program, and Envoy at $ENVOY_PATH, on PATH or where\n" +
			"'make demo' puts it.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Check(); err != nil {
				return usageError{err}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			// A reader that went away must not end us before everything is cleaned up.
			gone := make(chan os.Signal, 1)
			signal.Notify(gone, syscall.SIGPIPE)
			defer signal.Stop(gone)
			cfg.Out = os.Stdout
			return demo.Run(ctx, cfg)
		},
	}
	cmd.Flags().BoolVar(&cfg.Stay, "stay", false, "keep everything up after the story, until Ctrl-C, to shift traffic by hand")
	cmd.Flags().BoolVar(&cfg.Keep, "keep", false, "keep the files, logs among them, even if nothing fails")
	cmd.Flags().StringVar((*string)(&cfg.Network), "network", string(demo.Auto), "where the application runs: namespaces (with interception; needs root), loopback, or auto")
	cmd.Flags().IntVar(&cfg.Share, "share", 0, "how many requests make a share; for tests, which have less time than readers")
	_ = cmd.Flags().MarkHidden("share") // it is there
	cmd.AddCommand(newDemoApp())
	return cmd
}

// newDemoApp is what the demo starts as its application.
func newDemoApp() *cobra.Command {
	var cfg demo.AppConfig
	cmd := &cobra.Command{
		Use:    "app",
		Short:  "Serve as a part of the demo's application",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (cfg.Colour == "") == (cfg.ColourURL == "") {
				return usageError{errors.New("--colour or --colour-url is required, and only one of them")}
			}
			return demo.RunApp(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "", "address to serve on, host:port")
	cmd.Flags().StringVar(&cfg.Colour, "colour", "", "be colour in this version")
	cmd.Flags().StringVar(&cfg.ColourURL, "colour-url", "", "be front, and ask this URL")
	cmd.Flags().StringVar(&cfg.Proxy, "proxy", "", "proxy through which front asks; none without it")
	return cmd
}
