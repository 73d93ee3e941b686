package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) policyApply() *cobra.Command {
	var w changing
	var confirm time.Duration
	c := w.flags(&cobra.Command{Use: "apply FILE", Short: "Make a whole policy set the one in force, as one revision or none",
		Long: `Reads a policy set (JSON with comments and trailing commas, or YAML; - is standard input):
policies by name, trust requirements, tests. Policies that are not in it are removed. A
mistake anywhere, or a test that would break, refuses the whole.

With --confirm-within the change reverts by itself unless "enclave policy confirm" comes
in time: a change that locks you out mends itself.`,
		Args: exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			set, err := readSet(a.In, args[0])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(w.wish).Apply(c.Context(), api.Apply{Set: set, ConfirmWithin: int(confirm.Seconds())})
			if err != nil {
				return a.trial(err)
			}
			said := fmt.Sprintf("applied %s: %s gained, %d lost", wire.Count(len(set.Policies), "policy"), wire.Count(out.Impact.GainedCount, "access"), out.Impact.LostCount)
			if out.ConfirmBy != nil {
				said += "; reverts at " + out.ConfirmBy.Format(time.RFC3339) + " unless \"enclave policy confirm\" comes"
			}
			a.warn(out.Impact.Warnings)
			return a.done(c.Context(), cl, w, out.Changed, out, said)
		}})
	c.Flags().DurationVar(&confirm, "confirm-within", 0, "revert by itself unless confirmed within this `TIME`")
	return c
}

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{Use: "diff FILE", Short: "Show what applying a policy set would give, take and cut", Args: exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			set, err := readSet(a.In, args[0])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			_, err = cl.With(client.Wish{DryRun: true}).Apply(c.Context(), api.Apply{Set: set})
			return a.trial(err)
		}}
}

// trial prints what a dry run comes to; any other error stays one.
func (a *app) trial(err error) error {
	var t *client.Trial
	if !errors.As(err, &t) {
		return err
	}
	return a.print(t.Impact, func(w io.Writer) { impactText(w, &t.Impact) })
}

func impactText(w io.Writer, im *api.Impact) {
	access := func(sign string, list []api.Access, count int) {
		for _, x := range list {
			fmt.Fprintf(w, "%s %s → %s %s  (policy %s, rule %d)\n", sign, clean(first(x.Names[0], string(x.From))), clean(first(x.Names[1], string(x.To))), clean(x.What()), clean(first(x.PolicyName, string(x.Policy))), x.Rule)
		}
		if more := count - len(list); more > 0 {
			fmt.Fprintf(w, "%s … and %d more\n", sign, more)
		}
	}
	access("+", im.Gained, im.GainedCount)
	access("-", im.Lost, im.LostCount)
	for _, f := range im.Flows {
		fmt.Fprintf(w, "! cuts the live flow %s → %s, %s (since %s)\n", clean(first(f.Names[0], string(f.From))), clean(first(f.Names[1], string(f.To))), f.Flow, f.Since.Format(time.RFC3339))
	}
	for _, t := range im.Tests {
		fmt.Fprintf(w, "! flips the test %s: %s\n", clean(testName(&t.Assertion)), clean(t.Why))
	}
	for _, text := range im.Warnings {
		fmt.Fprintf(w, "warning: %s\n", clean(text))
	}
	if gap := im.Asked.Gap(); gap != "" {
		fmt.Fprintf(w, "! %s\n", gap)
	}
	fmt.Fprintf(w, "%d gained, %d lost, %s introduced, %d forgotten, %s cut, %s flipped\n", im.GainedCount, im.LostCount,
		wire.Count(len(im.Introduced), "pair"), len(im.Forgotten), wire.Count(len(im.Flows), "live flow"), wire.Count(len(im.Tests), "test"))
}

func testName(t *wire.Assertion) string { return first(t.Name, policy.FormatAssertion(t)) }

func (a *app) policyConfirm() *cobra.Command {
	return &cobra.Command{Use: "confirm", Short: "Keep a change that would otherwise revert by itself", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.change(c, changing{}, "confirmed", func(cl *client.Client) (api.Changed, error) { return cl.Confirm(c.Context()) })
		}}
}

func (a *app) policyTest() *cobra.Command {
	return &cobra.Command{Use: "test [FILE]", Short: "Judge the tests kept with the policies, or those of a file",
		Long: `Judges assertions like

  laptop -> web tcp/8080 allow
  tag:contractors -> db tcp/5432 deny; at 2026-01-03T10:00:00Z deny

one a line, # for comments. Without FILE those kept with the policies. The exit code is 1
when one fails. The API refuses a change that would break a kept one.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("FILE")(c, args)
			}
			return nil
		}, RunE: func(c *cobra.Command, args []string) error {
			var tests []wire.Assertion
			if len(args) == 1 {
				raw, err := readAll(a.In, args[0], wire.MaxRequestBody)
				if err != nil {
					return err
				}
				var problems []wire.Problem
				if tests, problems = policy.ParseAssertions(string(raw)); len(problems) > 0 {
					return &failure{exit: exitUsage, Code: api.CodeInvalid, Message: titled(args[0]) + " has mistakes", Problems: problems}
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			results, err := cl.RunTests(c.Context(), tests)
			if err != nil {
				return err
			}
			failed := 0
			for _, r := range results {
				if !r.Passed {
					failed++
				}
			}
			err = a.print(results, func(w io.Writer) {
				for _, r := range results {
					mark := "ok  "
					if !r.Passed {
						mark = "FAIL"
					}
					fmt.Fprintf(w, "%s %s: %s\n", mark, clean(testName(&r.Assertion)), clean(r.Why))
				}
				fmt.Fprintf(w, "%d passed, %d failed\n", len(results)-failed, failed)
			})
			if err == nil && failed > 0 {
				err = &failure{exit: exitRefused, Code: "test_failed", Message: fmt.Sprintf("%d of %s failed", failed, wire.Count(len(results), "test"))}
			}
			return err
		}}
}

func (a *app) policyExport() *cobra.Command {
	var rev uint64
	c := &cobra.Command{Use: "export", Short: "Print the policy set in force, as policy apply takes it", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			set, err := cl.PolicySet(c.Context(), wire.Revision(rev))
			if err != nil {
				return err
			}
			return printIndented(newGuard(a.raw.Out, always), set)
		}}
	c.Flags().Uint64Var(&rev, "revision", 0, "that of a past revision")
	return c
}

func (a *app) policyHistory() *cobra.Command {
	return &cobra.Command{Use: "history", Short: "List the revisions of the policy set, newest first", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Revisions(c.Context())
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				rows := [][]string{{"REVISION", "TIME", "AUTHOR", "ACTION", "OBJECT", "REASON"}}
				for _, e := range list {
					rows = append(rows, []string{num(int(e.Revision)), e.At.Format(time.RFC3339), clean(e.Author), e.Action, objectWords(e.Object, e.ObjectName), orDash(e.Reason)})
				}
				table(w, rows...)
			})
		}}
}

func (a *app) policyRestore() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "restore REVISION", Short: "Make the policy set of a past revision the one in force again", Args: exactly("REVISION"), ValidArgsFunction: a.completeRevisions(1),
		RunE: func(c *cobra.Command, args []string) error {
			rev, err := revisionArg(args[0])
			if err != nil {
				return err
			}
			return a.change(c, w, "restored the policy set of revision "+args[0], func(cl *client.Client) (api.Changed, error) {
				return cl.Restore(c.Context(), rev)
			})
		}})
}
