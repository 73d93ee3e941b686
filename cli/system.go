package cli

import (
	"context"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) system() *cobra.Command {
	return a.group("system", "Manage systems",
		a.systemList(), a.systemShow(), a.systemPeers(), a.systemAccess(),
		a.systemVerb("approve", "Let a pending system in", "approved"),
		a.systemVerb("enable", "Let a disabled system take part again", "enabled"),
		a.systemVerb("disable", "Take a system out of every policy for now; its flows are cut", "disabled"),
		a.systemVerb("revoke", "End a system's identity for good; its flows are cut", "revoked"),
		a.systemUpdate(), a.systemDelete(), a.systemRoute(),
		a.systemAdd("add", "Let an untagged system connect to another that has added it", "added", (*client.Client).AddPeer),
		a.systemAdd("unadd", "Take back that a system has added another", "took back", (*client.Client).RemovePeer),
	)
}

func (a *app) systemList() *cobra.Command {
	var search, tag, state string
	c := &cobra.Command{Use: "list", Short: "List systems", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		if state != "" && !slices.Contains(states(), state) {
			return usage("--state-is %.40q: want %s", state, strings.Join(states(), ", "))
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		for k, v := range map[string]string{"search": search, "tag": tag, "state": state} {
			if v != "" {
				q.Set(k, v)
			}
		}
		list, err := cl.Systems(c.Context(), q)
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			rows := [][]string{{"ID", "NAME", "STATE", "TAGS", "IPV4", "NAT", "LAST SEEN"}}
			for _, s := range list {
				seen := when(s.LastSeen)
				if s.State == wire.Connected {
					seen = "now"
				}
				rows = append(rows, []string{string(s.ID), clean(s.Name), string(s.State), join(s.Tags), s.IPv4.String(), orDash(s.NAT), seen})
			}
			table(w, rows...)
		})
	}}
	c.Flags().StringVar(&search, "search", "", "only systems whose name, hostname, tags or notes contain `TEXT`, or whose ID or address begins with it")
	c.Flags().StringVar(&tag, "tag", "", "only systems with this `TAG`")
	c.Flags().StringVar(&state, "state-is", "", "only systems in this `STATE`: "+strings.Join(states(), ", "))
	return completing(c, map[string]completion{"tag": a.completeTags(), "state-is": words(states()...)})
}

func (a *app) systemShow() *cobra.Command {
	return &cobra.Command{Use: "show SYSTEM", Short: "Show one system", Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.System(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				rows := [][]string{
					{"ID", string(s.ID)}, {"name", clean(s.Name)}, {"state", string(s.State)}, {"kind", s.Kind}, {"tags", join(s.Tags)},
					{"addresses", s.IPv4.String() + ", " + s.IPv6.String()}, {"host", orDash(s.Host.Hostname) + " " + orDash(s.Host.Platform)},
					{"seen from", orDash(s.SeenFrom)}, {"NAT", orDash(s.NAT)}, {"relay", orDash(string(s.Relay))},
					{"enrolled", s.EnrolledAt.Format(time.RFC3339)}, {"connected", when(s.ConnectedAt)}, {"expires", ends(s.ExpiresAt, s.ExpiresLocal, s.ExpiryAction)},
				}
				for _, r := range s.Routes {
					rows = append(rows, []string{"carries", r.String()})
				}
				for _, t := range s.Trust {
					text := clean(t.Requirement) + " until " + when(&t.Until)
					if !t.Until.IsZero() && t.Until.Before(time.Now()) {
						text += ", which is over"
					}
					rows = append(rows, []string{"trust", text})
				}
				table(w, rows...)
			})
		}}
}

func (a *app) systemVerb(verb, short, past string) *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: verb + " SYSTEM", Short: short, Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, past+" "+args[0], func(cl *client.Client) (api.Changed, error) {
				return cl.SystemDo(c.Context(), args[0], verb)
			})
		}})
}

func (a *app) systemUpdate() *cobra.Command {
	var w changing
	var name, notes string
	var end expiring
	c := w.flags(&cobra.Command{Use: "update SYSTEM", Short: "Change a system's name, notes or expiry",
		Example: "  enclave system update laptop --expires \"2026-12-24 18:00 Europe/Berlin\" --expiry-action delete --wait\n" +
			"  enclave system update laptop --expires never",
		Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			var u api.SystemUpdate
			if c.Flags().Changed("name") {
				if _, err := wire.ParseName(name); err != nil {
					return usage("--name: %v", err)
				}
				u.Name = &name
			}
			if c.Flags().Changed("notes") {
				u.Notes = &notes
			}
			var err error
			if u.ExpiresAt, u.ExpiresLocal, u.ExpiryAction, err = end.read(time.Now()); err != nil {
				return err
			}
			if u.Never = c.Flags().Changed("expires") && u.ExpiresAt == nil && u.ExpiresLocal == nil; u == (api.SystemUpdate{}) {
				return usage("nothing to change").hint("give --name, --notes or --expires")
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.With(w.wish).UpdateSystem(c.Context(), args[0], u)
			if err != nil {
				return a.trial(err)
			}
			return a.done(c.Context(), cl, w, api.Changed{Revision: s.Version}, s, "updated "+args[0])
		}})
	c.Flags().StringVar(&name, "name", "", "another `NAME`")
	c.Flags().StringVar(&notes, "notes", "", "free `TEXT`")
	end.flags(c)
	return c
}

func (a *app) systemAdd(verb, short, past string, do func(*client.Client, context.Context, string, string) (api.Changed, error)) *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: verb + " SYSTEM OTHER", Short: short, Args: exactly("SYSTEM", "OTHER"), ValidArgsFunction: a.completePair(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, past+": "+args[0]+" wants "+args[1], func(cl *client.Client) (api.Changed, error) {
				return do(cl, c.Context(), args[0], args[1])
			})
		}})
}

func (a *app) systemDelete() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "delete SYSTEM", Short: "Remove a system and its identity", Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "removed "+args[0], func(cl *client.Client) (api.Changed, error) {
				return cl.DeleteSystem(c.Context(), args[0])
			})
		}})
}

func (a *app) tag() *cobra.Command {
	change := func(use, short, past string, add bool) *cobra.Command {
		var w changing
		return w.flags(&cobra.Command{Use: use, Short: short, Args: atLeast("SYSTEM", "TAG"), ValidArgsFunction: a.completeTagging(add),
			RunE: func(c *cobra.Command, args []string) error {
				tags, err := tagArgs(args[1:])
				if err != nil {
					return err
				}
				added, removed := tags, []wire.Tag{}
				if !add {
					added, removed = removed, added
				}
				return a.change(c, w, past+" "+args[0]+": "+strings.Join(args[1:], ", "), func(cl *client.Client) (api.Changed, error) {
					return cl.SetTags(c.Context(), args[0], added, removed)
				})
			}})
	}
	return a.group("tag", "Manage the tags of systems", a.tagList(), a.tagSet(), a.tagRename(),
		change("add SYSTEM TAG…", "Add tags to a system", "tagged", true),
		change("remove SYSTEM TAG…", "Remove tags from a system; flows that only they allow are cut", "untagged", false),
	)
}

func (a *app) tagSet() *cobra.Command {
	var w changing
	var trust []string
	var notes string
	c := w.flags(&cobra.Command{Use: "set TAG", Short: "Keep a tag while nothing uses it, and say what it takes to count", Args: exactly("TAG"), ValidArgsFunction: a.offer(firstArg(tagWords)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "set "+args[0], func(cl *client.Client) (api.Changed, error) {
				return cl.SetTag(c.Context(), args[0], trust, notes)
			})
		}})
	c.Flags().StringArrayVar(&trust, "trust", nil, "`REQUIREMENT` that a system must meet for the tag to count; may be given several times")
	c.Flags().StringVar(&notes, "notes", "", "free `TEXT`")
	return c
}

func (a *app) tagRename() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "rename TAG NEW", Short: "Rename a tag wherever it stands", Args: exactly("TAG", "NEW"), ValidArgsFunction: a.offer(firstArg(tagWords)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "renamed "+args[0]+" to "+args[1], func(cl *client.Client) (api.Changed, error) {
				return cl.RenameTag(c.Context(), args[0], args[1])
			})
		}})
}

func (a *app) tagList() *cobra.Command {
	return listing(a, "List tags", (*client.Client).Tags, []string{"TAG", "SYSTEMS", "KEYS", "POLICIES", "TRUST"}, func(t api.Tag) []string {
		return []string{string(t.Name), num(t.Systems), num(t.Keys), num(t.Policies), join(t.Trust)}
	})
}

// change runs one change and prints its outcome.
func (a *app) change(c *cobra.Command, w changing, said string, do func(*client.Client) (api.Changed, error)) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	ch, err := do(cl.With(w.wish))
	if err != nil {
		return a.trial(err)
	}
	return a.done(c.Context(), cl, w, ch, nil, said)
}
