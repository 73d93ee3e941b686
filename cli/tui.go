package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/tui"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) tui() *cobra.Command {
	var o tui.Options
	var at, tokenFile string
	c := &cobra.Command{Use: "tui", Short: "See and steer the enclave from this terminal",
		Long: `Opens screens for what the API knows: ? shows the keys, : finds an action by its words.
A change is shown with what it would open and cut before it is made. For scripts and
screen readers, "enclave status" and the other verbs say the same, with --json too.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if a.json || !a.Terminal || !a.TerminalIn || a.Getenv("TERM") == "dumb" {
				return usage("enclave tui needs a terminal that can be drawn on").hint("for scripts there are \"enclave status --json\" and the other verbs")
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			box, err := a.openSandbox(first(at, a.Getenv("ENCLAVE_SANDBOX_URL")), tokenFile)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runTUI(ctx, tuiClient{Client: cl, seen: new(seenTrail), sandbox: box}, o)
		}}
	c.Flags().BoolVar(&o.ReadOnly, "read-only", false, "change nothing, whatever is pressed")
	c.Flags().BoolVar(&o.NoMouse, "no-mouse", false, "leave the mouse to the terminal, so that it selects text as usual")
	c.Flags().StringVar(&at, "sandbox", "", "`URL` of a sandbox server whose runs can be cancelled (default $ENCLAVE_SANDBOX_URL)")
	c.Flags().StringVar(&tokenFile, "sandbox-token-file", "", "`FILE` with a token of that server (or $ENCLAVE_SANDBOX_TOKEN)")
	c.Flags().BoolVar(&o.ASCII, "ascii", false, "use ASCII characters only (default where the locale is not UTF-8)")
	return c
}

// runTUI shows the terminal UI. After a panic the terminal is as it was, and the stack is
// printed for who mends it.
func (a *app) runTUI(ctx context.Context, cl tuiClient, o tui.Options) error {
	err := tui.Run(ctx, cl, a.screenOptions(o))
	if broke := (*tui.Panic)(nil); errors.As(err, &broke) {
		fmt.Fprintf(a.Err, "%s\n", broke.Stack)
	}
	return err
}

// screenOptions adds what the terminal and its environment say.
func (a *app) screenOptions(o tui.Options) tui.Options {
	o.In, o.Out, o.NoColor = a.In, a.raw.Out, a.Getenv("NO_COLOR") != ""
	o.ASCII = o.ASCII || !speaksUTF8(a.Getenv)
	return o
}

// speaksUTF8 reads the locale as POSIX has it: the first that is set decides.
func speaksUTF8(getenv func(string) string) bool {
	l := strings.ToLower(first(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(l, "utf-8") || strings.Contains(l, "utf8")
}

// tuiClient is the API in the words of the terminal UI: a change and its dry run are one
// method.
type tuiClient struct {
	*client.Client
	seen    *seenTrail
	sandbox *sandboxAt // nil is none
}

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

// Save makes or replaces a policy. One that is to be confirmed goes as a change of the
// whole set, which alone can revert by itself.
func (t tuiClient) Save(ctx context.Context, dry bool, in screen.Saving) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) (err error) {
		p := &in.Policy
		switch {
		case in.ConfirmWithin > 0:
			_, err = c.Edit(ctx, in.ConfirmWithin, func(set *wire.PolicySet) error { return replaceIn(set, *p) })
		case p.ID == "":
			_, err = c.CreatePolicy(ctx, *p)
		default:
			id := string(p.ID)
			_, err = c.UpdatePolicy(ctx, id, *p, in.Version)
		}
		return err
	})
}

// replaceIn puts a policy into a set.
func replaceIn(set *wire.PolicySet, p wire.Policy) error {
	if p.ID == "" {
		set.Policies = append(set.Policies, p)
		return nil
	}
	i := slices.IndexFunc(set.Policies, func(o wire.Policy) bool { return o.ID == p.ID })
	if i < 0 {
		return &api.Problem{Status: http.StatusNotFound, Code: api.CodeNotFound, Title: "the policy is gone: somebody has removed it"}
	}
	set.Policies[i] = p
	return nil
}

// Confirm keeps a change that would revert by itself.
func (t tuiClient) Confirm(ctx context.Context, dry bool) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.Confirm(ctx); return err })
}

// History returns the newest revisions of the policy set.
func (t tuiClient) History(ctx context.Context, limit int) ([]api.RevisionEntry, error) {
	return t.LatestRevisions(ctx, limit)
}

// Restore makes a past policy set the one in force.
func (t tuiClient) Restore(ctx context.Context, dry bool, rev wire.Revision) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.Restore(ctx, rev); return err })
}

// CutFlow ends one flow.
func (t tuiClient) CutFlow(ctx context.Context, dry bool, f *api.LiveFlow) (api.Impact, error) {
	out, err := t.With(client.Wish{DryRun: dry}).CutFlows(ctx, api.CutFlows{From: string(f.From), To: string(f.To), Proto: f.Proto, Src: f.Src, Dst: f.Dst})
	return api.Impact{Flows: out.Flows}, err
}
