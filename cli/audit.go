package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) audit() *cobra.Command {
	return a.group("audit", "Look at what was done, by whom, and prove it",
		a.auditList("list"), a.auditTail(), a.auditExport(), a.auditVerify(), a.auditProve(), a.auditCheckpoint(), a.auditKey(),
		a.auditSubjects(), a.auditErase(), a.auditArchive(), a.auditSegments(), a.auditWitness())
}

// auditFilter are the flags that say which records are wanted.
type auditFilter struct {
	actor, action, object, outcome, request, since, until string
}

func (f *auditFilter) flags(c *cobra.Command) *cobra.Command {
	fl := c.Flags()
	fl.StringVar(&f.actor, "actor", "", "only what `WHO` did; a * at the end stands for anything: token:*")
	fl.StringVar(&f.action, "action", "", "only `ACTION`s such as policy.create; policy.* is all of that noun")
	fl.StringVar(&f.object, "object", "", "only what happened to `OBJECT`, such as system:k3j9x")
	fl.StringVar(&f.outcome, "outcome", "", "only `OUTCOME` ok, denied or failed")
	fl.StringVar(&f.request, "request", "", "only what the request of that `ID` did (the Enclave-Request of an answer)")
	fl.StringVar(&f.since, "since", "", "only from this `TIME` on: RFC 3339, or a duration ago (24h, 7d)")
	fl.StringVar(&f.until, "until", "", "only before this `TIME`")
	return c
}

func (f *auditFilter) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for name, v := range map[string]string{"actor": f.actor, "action": f.action, "object": f.object, "outcome": f.outcome, "request": f.request} {
		if v != "" {
			q.Set(name, v)
		}
	}
	for name, v := range map[string]string{"since": f.since, "until": f.until} {
		t, err := past(v, now)
		if err != nil {
			return nil, err
		}
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q, nil
}

// past reads RFC 3339 or a duration before now.
func past(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := parseDuration(s); err == nil && d >= 0 {
		return now.Add(-d).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usage("time %.40q: want RFC 3339 (2026-03-29T18:00:00Z) or a duration ago (24h, 7d)", s)
	}
	return t.UTC(), nil
}

func (a *app) auditList(use string) *cobra.Command {
	var f auditFilter
	var limit int
	c := f.flags(&cobra.Command{Use: use, Short: "List what was done, by whom",
		Example: "  enclave audit list --action 'system.*' --since 24h\n  enclave audit list --outcome denied --limit 20",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100_000 {
				return usage("--limit %d: want 1 to 100000; an export has all", limit)
			}
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Audit(c.Context(), q, limit)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				rows := [][]string{{"SEQ", "TIME", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "DETAIL"}}
				for i := range list {
					rows = append(rows, auditRow(&list[i]))
				}
				table(w, rows...)
			})
		}})
	c.Flags().IntVar(&limit, "limit", 100, "the newest `N` of them")
	return c
}

// objectWords is what a record is about: the name beside the ID that stays.
func objectWords(object, name string) string {
	if name == "" {
		return orDash(object)
	}
	return clean(object) + " (" + clean(name) + ")"
}

func auditRow(r *api.AuditRecord) []string {
	detail := string(r.Detail)
	if r.Erased {
		detail = "(erased)"
	}
	if detail == "null" || detail == "{}" {
		detail = ""
	}
	if len(detail) > 100 {
		detail = detail[:97] + "…"
	}
	return []string{num(int(r.Seq)), r.At.Format(time.RFC3339), clean(r.Actor), clean(r.Action), objectWords(r.Object, r.ObjectName), r.Outcome, orDash(detail)}
}

func (a *app) auditTail() *cobra.Command {
	var f auditFilter
	var last int
	c := f.flags(&cobra.Command{Use: "tail", Short: "Show the newest records and follow what comes, until interrupted",
		Example: "  enclave audit tail -n 5 --outcome denied",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if last < 0 || last > 1000 {
				return usage("-n %d: want 0 to 1000", last)
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			return a.tail(ctx, cl, q, last)
		}})
	c.Flags().IntVarP(&last, "lines", "n", 10, "begin with the newest `N`")
	return c
}

func (a *app) tail(ctx context.Context, cl *client.Client, q url.Values, last int) error {
	show := func(r *api.AuditRecord) error {
		if a.json {
			return json.NewEncoder(a.Out).Encode(r)
		}
		row := auditRow(r)
		_, err := fmt.Fprintf(a.Out, "%s  %s  %s  %s  %s  %s  %s\n", row[0], row[1], row[2], row[3], row[4], row[5], row[6])
		return err
	}
	after := int64(-1)
	if last > 0 {
		list, err := cl.Audit(ctx, q, last)
		if err != nil {
			return err
		}
		for i := range list {
			if err := show(&list[i]); err != nil {
				return err
			}
			after = list[i].Seq
		}
	}
	err := cl.FollowAudit(ctx, q, after, show)
	if ctx.Err() != nil {
		return nil // interrupted, as it was meant to be
	}
	return err
}

func (a *app) auditCheckpoint() *cobra.Command {
	var size int64
	var out string
	c := &cobra.Command{Use: "checkpoint", Short: "Show the signed state of the audit trail, to be kept elsewhere",
		Long: `Prints the signed state of the audit trail (C2SP tlog-checkpoint): how many records it
has, and the root of the Merkle tree over them. Who keeps it can tell later, with
"enclave audit verify --checkpoint FILE", whether the trail was cut off or rewritten.`,
		Example: "  enclave audit checkpoint --out monday.checkpoint",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			cp, err := cl.AuditCheckpoint(c.Context(), size, 0)
			if err != nil {
				return err
			}
			if out != "" {
				if err := writeNew(out, []byte(cp.Checkpoint)); err != nil {
					return err
				}
			}
			return a.print(cp, func(w io.Writer) {
				if out == "" {
					fmt.Fprint(w, cp.Checkpoint)
					return
				}
				fmt.Fprintf(w, "%s: %s of %s\n", out, wire.Count(cp.Size, "record"), cp.Root)
			})
		}}
	c.Flags().Int64Var(&size, "size", 0, "the state when there were `N` records (default all)")
	outFlag(c, &out, "write it to `FILE`, which must not exist")
	return c
}

func (a *app) auditKey() *cobra.Command {
	return &cobra.Command{Use: "key", Short: "Show the public key that verifies the audit trail",
		Long: `Prints the public key that verifies exports, proofs and checkpoints. Hand it to whoever
is to verify by a way of its own: a key that comes with an export proves nothing.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			cp, err := cl.AuditCheckpoint(c.Context(), 0, 0)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"key": cp.Key}, func(w io.Writer) { fmt.Fprintln(w, cp.Key) })
		}}
}

func (a *app) auditProve() *cobra.Command {
	var size int64
	var out string
	c := &cobra.Command{Use: "prove SEQ", Short: "Prove to others that a record is in the audit trail",
		Example: "  enclave audit prove 17 --out record17.proof\n  enclave audit verify record17.proof --key \"$(cat audit.pub)\"",
		Args:    exactly("SEQ"), RunE: func(c *cobra.Command, args []string) error {
			seq, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || seq < 1 {
				return usage("record %.40q: want a number, as \"enclave audit list\" shows them", args[0])
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			p, err := cl.AuditProof(c.Context(), seq, size)
			if err != nil {
				return err
			}
			raw, err := json.Marshal(p)
			if err != nil {
				return err
			}
			if out == "" {
				_, err := fmt.Fprintf(newGuard(a.raw.Out, always), "%s\n", raw)
				return err
			}
			if err := writeNew(out, append(raw, '\n')); err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "seq": seq}, func(w io.Writer) {
				fmt.Fprintf(w, "%s proves record %d; check it with: enclave audit verify %s --key KEY\n", out, seq, out)
			})
		}}
	c.Flags().Int64Var(&size, "size", 0, "in the tree of `N` records (default all)")
	outFlag(c, &out, "write it to `FILE`, which must not exist")
	return c
}

func (a *app) auditSubjects() *cobra.Command {
	return &cobra.Command{Use: "subjects", Short: "List whom records are about and whose details can be read", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := cl.AuditSubjects(c.Context())
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			for _, s := range list {
				fmt.Fprintln(w, clean(s))
			}
		})
	}}
}

func (a *app) auditErase() *cobra.Command {
	var dryRun bool
	var reason string
	c := &cobra.Command{Use: "erase SUBJECT", Short: "Destroy the details of a person or a system; proofs stay valid",
		Long: `Destroys the key under which the details of all records about a subject are sealed. The
records stay, with who did what and when; what their details said, nobody can read any
more, here and in every export and backup that is made from now on. Older exports and
backups keep what they have. It cannot be undone.`,
		Example: "  enclave audit erase system:k3j9x --reason \"asked for on 2026-03-01\"",
		Args:    exactly("SUBJECT"), RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			e, err := cl.EraseAudit(c.Context(), args[0], dryRun, reason)
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) {
				word := map[bool]string{false: "erased", true: "would erase"}[dryRun]
				fmt.Fprintf(w, "%s the details of %s about %s\n", word, wire.Count(e.Records, "record"), clean(e.Subject))
			})
		}}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what it would do and change nothing")
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail: `TEXT`")
	return c
}

// writeNew writes a file that must not exist.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return closeSynced(f, err)
}

func closeSynced(f *os.File, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// outFlag declares --out, the one spelling of where something is written, and takes the
// --output of before for it.
func outFlag(c *cobra.Command, to *string, what string) {
	c.Flags().StringVar(to, "out", "", what)
	_ = c.MarkFlagFilename("out")
	c.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "output" {
			name = "out"
		}
		return pflag.NormalizedName(name)
	})
}
