package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

// completeTimeout keeps a shell responsive when the server is away.
const completeTimeout = time.Second

// completion offers words for an argument or a flag.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// offer asks the server. That it is away is no error in a completion: there is
// nothing to offer then.
func (a *app) offer(words func(ctx context.Context, cl *client.Client, args []string) []string) completion {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		cl, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer cl.Close()
		return typed(words(ctx, cl, args)), cobra.ShellCompDirectiveNoFileComp
	}
}

// typed leaves out what would not be the argument that it seems to be: a name that reads
// as a flag, or as the end of a line.
func typed(words []string) (out []string) {
	for _, w := range words {
		name, about, told := strings.Cut(w, "\t")
		if name != clean(name) || strings.HasPrefix(name, "-") {
			continue
		}
		if told {
			name += "\t" + clean(about)
		}
		out = append(out, name)
	}
	return out
}

// firstArg offers nothing after the first argument.
func firstArg(words func(context.Context, *client.Client) []string) func(context.Context, *client.Client, []string) []string {
	return func(ctx context.Context, cl *client.Client, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return words(ctx, cl)
	}
}

func (a *app) completeSystems() completion { return a.offer(firstArg(systemWords)) }

// systemWords are names and IDs.
func systemWords(ctx context.Context, cl *client.Client) (out []string) {
	systems, _ := cl.Systems(ctx, nil)
	for _, s := range systems {
		out = append(out, s.Name+"\t"+string(s.ID)+", "+string(s.State), string(s.ID)+"\t"+s.Name)
	}
	return out
}

// completeTags offers tags: all of them for a flag.
func (a *app) completeTags() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return tagWords(ctx, cl) })
}

func tagWords(ctx context.Context, cl *client.Client) (out []string) {
	tags, _ := cl.Tags(ctx)
	for _, t := range tags {
		out = append(out, string(t.Name)+"\t"+wire.Count(t.Systems, "system")+", "+wire.Count(t.Policies, "policy"))
	}
	return out
}

// completeTagging offers a system and then tags: every tag to add, or to remove
// those that the system has.
func (a *app) completeTagging(add bool) completion {
	return a.offer(func(ctx context.Context, cl *client.Client, args []string) (out []string) {
		switch {
		case len(args) == 0:
			return systemWords(ctx, cl)
		case add:
			return tagWords(ctx, cl)
		}
		s, _ := cl.System(ctx, args[0])
		for _, t := range s.Tags {
			out = append(out, string(t))
		}
		return out
	})
}

func (a *app) completePolicies() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		policies, _ := cl.Policies(ctx)
		for _, p := range policies {
			out = append(out, p.Name+"\t"+string(p.ID)+", "+p.State)
		}
		return out
	}))
}

func (a *app) completeKeys() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		keys, _ := cl.Keys(ctx)
		for _, k := range keys {
			out = append(out, string(k.ID)+"\t"+k.Name)
		}
		return out
	}))
}

func (a *app) completeRequirements() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return requirementWords(ctx, cl) })
}

func requirementWords(ctx context.Context, cl *client.Client) (out []string) {
	list, _ := cl.Requirements(ctx)
	for _, q := range list {
		out = append(out, q.ID+"\t"+string(q.Kind))
	}
	return out
}

// completeRevisions offers revisions of the policy set, for up to n arguments.
func (a *app) completeRevisions(n int) completion {
	return a.offer(func(ctx context.Context, cl *client.Client, args []string) (out []string) {
		if len(args) >= n {
			return nil
		}
		list, _ := cl.Revisions(ctx)
		for _, r := range list {
			out = append(out, num(int(r.Revision))+"\t"+r.Action+" "+r.Object)
		}
		return out
	})
}

func (a *app) completeTokens() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		tokens, _ := cl.Tokens(ctx)
		for _, t := range tokens {
			out = append(out, t.Name+"\t"+t.ID)
		}
		return out
	}))
}

func (a *app) completeRelays() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		relays, _ := cl.Relays(ctx)
		for _, r := range relays {
			out = append(out, string(r.ID)+"\t"+strings.TrimSpace(r.Name+" "+r.Addr))
		}
		return out
	}))
}

// completeTrust offers a system and then a requirement.
func (a *app) completeTrust() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, args []string) []string {
		switch len(args) {
		case 0:
			return systemWords(ctx, cl)
		case 1:
			return requirementWords(ctx, cl)
		}
		return nil
	})
}

// completePair offers a system and then another.
func (a *app) completePair() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, args []string) []string {
		if len(args) > 1 {
			return nil
		}
		return systemWords(ctx, cl)
	})
}

// completePeers offers whom the agent that runs on --state knows.
func (a *app) completePeers(c *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	l, err := a.local()
	if len(args) > 0 || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
	defer cancel()
	var s api.AgentStatus
	s, _ = l.Status(ctx)
	for _, p := range s.Peers {
		out = append(out, p.Name+"\t"+string(p.ID))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// states are what --state-is takes.
func states() (out []string) {
	for _, s := range []wire.SystemState{wire.Pending, wire.Connected, wire.Disconnected, wire.Disabled, wire.Revoked} {
		out = append(out, string(s))
	}
	return out
}

// words completes a flag from a fixed list.
func words(list ...string) completion {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// completing registers completions of flags. A flag that does not exist is a mistake
// of this program, which a test of every command finds.
func completing(c *cobra.Command, flags map[string]completion) *cobra.Command {
	for name, f := range flags {
		if err := c.RegisterFlagCompletionFunc(name, f); err != nil {
			panic(err)
		}
	}
	return c
}
