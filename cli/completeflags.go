package cli

import (
	"context"
	"net/url"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"enclave/cli/client"
	"enclave/wire/api"
)

// recentRecords is how many records of the audit trail its words are taken from.
const recentRecords = 200

// completeFlags has every flag of c and below completed by what it takes, as its help names
// that, unless the verb has said more: names from the server, words from a list, and files
// only where a file is meant.
func (a *app) completeFlags(c *cobra.Command) {
	everySystem := a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return systemWords(ctx, cl) })
	by := map[string]completion{
		"TAG": a.completeTags(), "REQUIREMENT": a.completeRequirements(), "SYSTEM": everySystem, "SYSTEM=SUBNET,...": everySystem,
		"TEST": a.completeTests(), "LEVEL": completeLevel, "FORMAT": words("text", "dot", "mermaid"), "OUTCOME": words("ok", "denied", "failed"),
		"ACTION": a.completeTrail(func(r *api.AuditRecord) string { return r.Action }),
		"WHO":    a.completeTrail(func(r *api.AuditRecord) string { return r.Actor }),
		"OBJECT": a.completeTrail(func(r *api.AuditRecord) string { return r.Object }),
		"DIR": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		"FILE": nil, "PATH": nil, // a shell completes files by itself
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		takes, _ := pflag.UnquoteUsage(f)
		how, known := by[takes]
		if _, said := c.GetFlagCompletionFunc(f.Name); said || takes == "" || known && how == nil {
			return
		}
		if !known {
			how = cobra.NoFileCompletions // a number, a time, an address, or somebody's own words
		}
		_ = c.RegisterFlagCompletionFunc(f.Name, how) // fails where it is registered, which it is not
	})
	for _, sub := range c.Commands() {
		a.completeFlags(sub)
	}
}

// completeTests offers the kept tests.
func (a *app) completeTests() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, _ []string) (out []string) {
		list, _ := cl.Tests(ctx)
		for i := range list {
			out = append(out, testName(&list[i]))
		}
		return out
	})
}

// completeTrail offers the words that the newest records of the audit trail have.
func (a *app) completeTrail(word func(*api.AuditRecord) string) completion {
	return a.offer(func(ctx context.Context, cl *client.Client, _ []string) (out []string) {
		list, _ := cl.Audit(ctx, url.Values{}, recentRecords)
		for i := range list {
			if w := word(&list[i]); w != "" {
				out = append(out, w)
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	})
}
