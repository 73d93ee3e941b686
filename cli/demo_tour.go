package cli

import (
	"context"
	"path/filepath"

	"enclave/cli/client"
	"enclave/e2e/demo"
	"enclave/tui"
)

// tourDemo shows the demo in the terminal UI, with the guided tour beside it.
func (a *app) tourDemo(ctx context.Context, cfg demo.Config, o tui.Options) error {
	a.printf("Starting control, a relay and the systems…\n")
	t, err := demo.OpenTour(ctx, cfg)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := writeFile(filepath.Join(cfg.Dir, tokenFile), []byte(t.Token()+"\n")); err != nil {
		return err
	}
	at := "http://" + t.APIAddr()
	if err := writeContext(cfg.Dir, apiContext{URL: at, TokenFile: tokenFile}); err != nil {
		return err
	}
	cl, err := client.New(client.Config{URL: at, Token: t.Token()})
	if err != nil {
		return err
	}
	defer cl.Close()
	o.Tour = t
	return a.runTUI(ctx, tuiClient{Client: cl, seen: new(seenTrail)}, o)
}
