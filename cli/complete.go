package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout keeps a shell responsive when the server is away.
const completeTimeout = time.Second

// completeSystems offers names and IDs for the first argument.
func (a *app) completeSystems(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
	defer cancel()
	var out []string
	if cl, err := a.client(); err == nil {
		systems, _ := cl.Systems(ctx, nil) // nothing to offer is no error in a completion
		for _, s := range systems {
			out = append(out, s.Name+"\t"+string(s.ID), string(s.ID)+"\t"+s.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completePolicies offers the names of policies.
func (a *app) completePolicies(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
	defer cancel()
	var out []string
	if cl, err := a.client(); err == nil {
		policies, _ := cl.Policies(ctx)
		for _, p := range policies {
			out = append(out, p.Name+"\t"+p.State)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
