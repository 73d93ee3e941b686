package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/tui"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) tui() *cobra.Command {
	var o tui.Options
	c := &cobra.Command{Use: "tui", Short: "See and steer the enclave from this terminal",
		Long: `Opens screens for what the API knows: ? shows the keys, : finds an action by its words.
A change is shown with what it would open and cut before it is made. For scripts and
screen readers, "enclave status" and the other verbs say the same, with --json too.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if a.json || !a.Terminal || !a.TerminalIn {
				return usage("enclave tui needs a terminal").hint("for scripts there are \"enclave status --json\" and the other verbs")
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, stop := untilSignal(c.Context())
			defer stop()
			o.In, o.Out, o.NoColor = a.In, a.Out, a.Getenv("NO_COLOR") != ""
			o.ASCII = o.ASCII || !speaksUTF8(a.Getenv)
			return tui.Run(ctx, tuiClient{cl}, o)
		}}
	c.Flags().BoolVar(&o.ReadOnly, "read-only", false, "change nothing, whatever is pressed")
	c.Flags().BoolVar(&o.ASCII, "ascii", false, "use ASCII characters only (default where the locale is not UTF-8)")
	return c
}

// speaksUTF8 reads the locale as POSIX has it: the first that is set decides.
func speaksUTF8(getenv func(string) string) bool {
	l := strings.ToLower(first(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(l, "utf-8") || strings.Contains(l, "utf8")
}

// tuiClient is the API in the words of the terminal UI: a change and its dry run are one
// method.
type tuiClient struct{ *client.Client }

func (t tuiClient) try(dry bool, do func(c *client.Client) error) (api.Impact, error) {
	err := do(t.With(client.Wish{DryRun: dry}))
	var trial *client.Trial
	if errors.As(err, &trial) {
		return trial.Impact, nil
	}
	return api.Impact{}, err
}

// SystemVerb approves, enables, disables or revokes a system; decline removes it.
func (t tuiClient) SystemVerb(ctx context.Context, dry bool, name, verb string) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		if verb == "decline" {
			_, err := c.DeleteSystem(ctx, name)
			return err
		}
		_, err := c.SystemDo(ctx, name, verb)
		return err
	})
}

// Tag adds and removes tags of a system.
func (t tuiClient) Tag(ctx context.Context, dry bool, name string, add, remove []wire.Tag) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		_, err := c.SetTags(ctx, name, add, remove)
		return err
	})
}

// Expire changes when a system ends.
func (t tuiClient) Expire(ctx context.Context, dry bool, name string, u api.SystemUpdate) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		_, err := c.UpdateSystem(ctx, name, u)
		return err
	})
}

// PolicyVerb enables, disables or deletes a policy.
func (t tuiClient) PolicyVerb(ctx context.Context, dry bool, name, verb string) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		if verb == "delete" {
			_, err := c.DeletePolicy(ctx, name)
			return err
		}
		_, err := c.PolicyDo(ctx, name, verb)
		return err
	})
}

// Create makes a policy.
func (t tuiClient) Create(ctx context.Context, dry bool, p wire.Policy) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		_, err := c.CreatePolicy(ctx, p)
		return err
	})
}
