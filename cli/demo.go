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
	"enclave/tui"
)

func (a *app) demo() *cobra.Command {
	cfg := demo.Config{Seed: world.Seed(), Changes: 200}
	var plain, keep bool
	var ui tui.Options
	c := &cobra.Command{Use: "demo", Short: "Run the whole mesh in one process, on a simulated internet",
		Long: `Runs control, a relay and seven systems in one process on a simulated internet with
NATs. It needs no root and no network. In a terminal it opens the terminal UI with a
guided tour: nine things to do, each with what it measured. With --plain, and where there
is no terminal, it walks a scenario by itself that opens and cuts real WireGuard traffic,
prints one line a check, and ends with "N passed, N failed". With --keep that one stays up
afterwards, and the verbs of this program manage it.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if a.json {
				return usage("demo prints a walk for people; it has no --json")
			}
			if cfg.Changes < 1 || cfg.Changes > 100_000 {
				return usage("--changes %d: want 1 to 100000", cfg.Changes)
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			dir, err := demo.StateDir()
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			cfg.Dir = dir
			cfg.Out, cfg.Logger = a.Out, slog.New(slog.DiscardHandler)
			if a.Terminal && a.TerminalIn && a.Getenv("TERM") != "dumb" && !plain && !keep && !a.verbose {
				cfg.API = "127.0.0.1:0"
				return a.tourDemo(ctx, cfg, ui)
			}
			return a.runDemo(ctx, cfg, keep)
		}}
	f := c.Flags()
	f.BoolVar(&plain, "plain", false, "walk a scenario and print plain lines (what it does anyway where there is no terminal)")
	f.BoolVar(&keep, "keep", false, "after the plain walk, leave it running, with its API on a loopback port")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "seed of the simulated internet, to replay a run")
	f.IntVar(&cfg.Changes, "changes", cfg.Changes, "policy changes from which the latency is taken")
	f.BoolVar(&ui.ASCII, "ascii", false, "use ASCII characters only (default where the locale is not UTF-8)")
	return c
}

func (a *app) runDemo(ctx context.Context, cfg demo.Config, keep bool) error {
	cfg.Colour = a.Terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
	if a.verbose {
		cfg.Logger = a.logger()
	}
	if keep {
		cfg.API = "127.0.0.1:0"
		cfg.Keep = func(ctx context.Context, api, token string) error { return a.keepDemo(ctx, cfg.Dir, api, token) }
	}
	err := demo.Run(ctx, cfg)
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
