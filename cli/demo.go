package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"enclave/e2e/demo"
	"enclave/e2e/world"
)

func (a *app) demo() *cobra.Command {
	cfg := demo.Config{Seed: world.Seed(), Changes: 200}
	var plain, keep bool
	c := &cobra.Command{Use: "demo", Short: "Run the whole mesh in one process, on a simulated internet",
		Long: `Runs control, a relay and seven systems in one process on a simulated internet with
NATs, walks a scenario that opens and cuts real WireGuard traffic, prints one line a
check with what it measured, and ends with "N passed, N failed". It needs no root and
no network. With --keep it stays up afterwards, and the verbs of this program manage it.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if a.json {
				return usage("demo prints a walk for people; it has no --json")
			}
			if cfg.Changes < 1 || cfg.Changes > 100_000 {
				return usage("--changes %d: want 1 to 100000", cfg.Changes)
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runDemo(ctx, cfg, keep)
		}}
	f := c.Flags()
	f.BoolVar(&plain, "plain", false, "plain lines on stdout (what it does anyway where there is no terminal)")
	f.BoolVar(&keep, "keep", false, "leave it running, with its API on a loopback port")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "seed of the simulated internet, to replay a run")
	f.IntVar(&cfg.Changes, "changes", cfg.Changes, "policy changes from which the latency is taken")
	return c
}

func (a *app) runDemo(ctx context.Context, cfg demo.Config, keep bool) error {
	dir, err := demo.StateDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg.Out, cfg.Dir = a.Out, dir
	cfg.Colour = a.Terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
	cfg.Logger = slog.New(slog.DiscardHandler)
	if a.verbose {
		cfg.Logger = a.logger()
	}
	if keep {
		cfg.API = "127.0.0.1:0"
		cfg.Keep = func(ctx context.Context, api, token string) error { return a.keepDemo(ctx, dir, api, token) }
	}
	err = demo.Run(ctx, cfg)
	if errors.Is(err, context.Canceled) {
		return &failure{exit: exitTryAgain, Code: "interrupted", Message: "interrupted"}
	}
	if errors.Is(err, demo.ErrFailed) {
		return &failure{exit: exitRefused, Code: "failed", Message: "a check failed; seed " + num(int(cfg.Seed)) + " replays the internet of this run"}
	}
	return err
}

// keepDemo leaves a context file, so that the verbs find the demo, and waits.
func (a *app) keepDemo(ctx context.Context, dir, at, token string) error {
	if err := writeFile(filepath.Join(dir, tokenFile), []byte(token+"\n")); err != nil {
		return err
	}
	if err := writeContext(dir, apiContext{URL: "http://" + at, TokenFile: tokenFile}); err != nil {
		return err
	}
	a.printf("\nThe enclave stays up. In another terminal:\n  export ENCLAVE_STATE=%s\n  enclave system list\n  enclave policy list\n  enclave policy disable %q --wait\nPress Ctrl-C here to end it.\n", dir, "Kubernetes for developers")
	<-ctx.Done()
	return nil
}
