package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

// print shows v as JSON under --json, else calls text.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(v)
	}
	text(a.Out)
	return nil
}

// table lays rows out in columns; the first is the heading.
func table(w io.Writer, rows ...[]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// listing is the verb that lists all there is of something, a row each.
func listing[T any](a *app, short string, ask func(*client.Client, context.Context) ([]T, error), heading []string, row func(T) []string) *cobra.Command {
	return &cobra.Command{Use: "list", Short: short, Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := ask(cl, c.Context())
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			rows := [][]string{heading}
			for _, v := range list {
				rows = append(rows, row(v))
			}
			table(w, rows...)
		})
	}}
}

// clean makes text from outside safe for a terminal: a system chooses its own
// hostname, and an escape sequence in it must not reach the administrator's screen.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if wire.Steers(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s)
}

func join[T ~string](list []T) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = string(v)
	}
	return orDash(strings.Join(s, ","))
}

func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}

// changing are the flags that changes of what systems may do have in common.
type changing struct {
	wait    bool
	timeout time.Duration
	wish    client.Wish
}

func (w *changing) flags(c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.BoolVar(&w.wait, "wait", false, "return once every affected connected system has applied the change")
	f.DurationVar(&w.timeout, "timeout", 30*time.Second, "how long --wait waits")
	f.BoolVar(&w.wish.DryRun, "dry-run", false, "show what it would do and change nothing")
	f.StringArrayVar(&w.wish.Force, "force", nil, "name of a kept `TEST` that the change may break; may be given several times")
	f.StringVar(&w.wish.Reason, "reason", "", "why, for the audit trail: `TEXT`")
	return c
}

// trying are the flags of changes that no map shows, of keys and tokens: nobody has to
// apply them, and no test can break.
func trying(c *cobra.Command, w *client.Wish) *cobra.Command {
	f := c.Flags()
	f.BoolVar(&w.DryRun, "dry-run", false, "say whether it would be done and change nothing")
	f.StringVar(&w.Reason, "reason", "", "why, for the audit trail: `TEXT`")
	return c
}

// outcome is what a change prints.
type outcome struct {
	Revision wire.Revision  `json:"revision"`
	Affected int            `json:"affected,omitempty"` // absent where the answer does not tell
	Applied  *bool          `json:"applied,omitempty"`
	Took     *time.Duration `json:"took_ns,omitempty"`
	Away     int            `json:"away,omitempty"` // systems that it has not reached: they are not connected
	Object   any            `json:"object,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// done waits if asked to and prints the outcome of a change: said is the sentence
// for people.
func (a *app) done(ctx context.Context, c *client.Client, w changing, ch api.Changed, object any, said string) error {
	out := outcome{Revision: ch.Revision, Affected: ch.Affected, Object: object, Warnings: ch.Warnings}
	a.warn(ch.Warnings)
	var missed api.RevisionStatus
	if w.wait {
		began := time.Now()
		ctx, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		st, err := c.WaitApplied(ctx, ch.Revision)
		if err != nil {
			if ctx.Err() == nil {
				return err
			}
			return &failure{exit: exitTryAgain, Code: "not_applied",
				Message: fmt.Sprintf("revision %d is in force, but after %s these systems have not acknowledged it: %s", ch.Revision, w.timeout, join(st.Waiting)),
				Hint:    "the change is kept; see \"enclave status\""}
		}
		took, applied := time.Since(began), true
		out.Took, out.Applied, out.Away = &took, &applied, st.Away
		missed = st
	}
	return a.print(out, func(io.Writer) {
		if ch.Revision == 0 { // nothing that a system follows: a token
			a.printf("%s\n", said)
			return
		}
		a.printf("%s (revision %d", said, ch.Revision)
		if out.Took != nil {
			a.printf(", applied by every affected connected system after %s", out.Took.Round(time.Millisecond))
		}
		a.printf(")\n")
		if missed.Away > 0 {
			a.printf("not reached: %s\n", olderMaps(missed.Away, missed.AwayUntil))
		}
	})
}

// warn says what a change has made and probably did not mean. Under --json it stands in
// the answer.
func (a *app) warn(list []string) {
	for _, text := range list {
		if !a.json {
			fmt.Fprintf(a.Err, "warning: %s\n", clean(text))
		}
	}
}

// tagArgs checks tags given as arguments.
func tagArgs(args []string) ([]wire.Tag, error) {
	tags := make([]wire.Tag, 0, len(args))
	for _, s := range args {
		t, err := wire.ParseTag(s)
		if err != nil {
			return nil, usage("%v", err)
		}
		tags = append(tags, t)
	}
	return tags, nil
}

// instant reads RFC 3339, a duration from now, or a wall clock of a zone.
func instant(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := parseDuration(s); err == nil {
		if d <= 0 {
			return time.Time{}, usage("%s is in the past", s)
		}
		return now.Add(d).UTC(), nil
	}
	if local, err := localTime(s); err != nil {
		return time.Time{}, err
	} else if local != nil {
		t, err := local.Instant()
		return t.UTC(), err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usage("time %.40q: want RFC 3339 (2026-03-29T18:00:00Z), a duration (24h, 7d) or a wall clock (\"2026-12-24 18:00 Europe/Berlin\")", s)
	}
	return t.UTC(), nil
}

// mostDays is a century, well inside what a time.Duration holds.
const mostDays = 36_500

// parseDuration is time.ParseDuration with days, which have no other unit beside them.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= mostDays {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}

// printIndented prints a document that people edit.
func printIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
