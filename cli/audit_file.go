package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/store/audit"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) auditExport() *cobra.Command {
	var last int64
	var sealed bool
	var out string
	c := &cobra.Command{Use: "export", Short: "Write the audit trail as a file that can be verified anywhere",
		Long: `Writes all records that are kept, one JSON object a line, with what a stranger needs to
verify them beside the public key of "enclave audit key": see "enclave audit verify".
Details stand in it in clear, with proof that they are those that were recorded;
--sealed leaves them sealed. An export that was interrupted does not verify.`,
		Example: "  enclave audit export --out trail.jsonl",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			q := url.Values{}
			if last != 0 {
				q.Set("last", strconv.FormatInt(last, 10))
			}
			if sealed {
				q.Set("sealed", "true")
			}
			body, err := cl.ExportAudit(c.Context(), q)
			if err != nil {
				return err
			}
			defer body.Close()
			if out == "" {
				var w io.Writer = a.raw.Out // into a file or a pipe as it is: its bytes are what is hashed
				if a.Terminal {
					w = newGuard(w, always)
				}
				_, err := io.Copy(w, body)
				return err
			}
			n, err := copyNew(out, body)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "bytes": n}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s; check it with: enclave audit verify %s --key KEY\n", out, wire.Count(n, "byte"), out)
			})
		}}
	fl := c.Flags()
	fl.Int64Var(&last, "last", 0, "end with record `SEQ` (default the newest)")
	fl.BoolVar(&sealed, "sealed", false, "leave all details sealed")
	outFlag(c, &out, "write it to `FILE`, which must not exist (default standard output)")
	return c
}

// copyNew copies to a file that must not exist; on error nothing is left of it.
func copyNew(name string, r io.Reader) (int64, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	if err = closeSynced(f, err); err != nil {
		os.Remove(name)
	}
	return n, err
}

// auditVerify checks files without a server.
func (a *app) auditVerify() *cobra.Command {
	var key, keyFile, head string
	var checkpoints []string
	var unseal unsealFlags
	c := &cobra.Command{Use: "verify [FILE…]", Short: "Verify exports, archives or a proof, without a server",
		Long: `Verifies files on any machine: each record against its hash, each against the one before,
all of them against the signed root of the Merkle tree. Names the first record that is
changed, missing, reordered, duplicated or rewritten. Archived segments come first, in
their order. Without a FILE it reads the trail from the server.

With --checkpoint it compares with what others remember: files of "enclave audit
checkpoint" or of "enclave audit witness", from agents. Only they can tell that a log was
rolled back or forked by whoever has its key.

The file of "enclave sandbox … --audit" is a chain without a key: without --key it shows
that no record between the first and the last is changed or missing; that none was cut
off its end, only beside the --head of an earlier verification.`,
		Example: "  enclave audit verify trail.jsonl --key-file audit.pub\n" +
			"  enclave audit verify 2025.segment trail.jsonl --key-file audit.pub --checkpoint monday.checkpoint --checkpoint laptop.checkpoint\n" +
			"  enclave audit verify runs.jsonl",
		Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			if keyFile != "" {
				b, err := readSmall(keyFile)
				if err != nil {
					return err
				}
				key = strings.TrimSpace(string(b))
			}
			runs := head != ""
			for _, name := range args {
				is, err := ofRuns(name, key == "")
				if err != nil {
					return err
				}
				runs = runs || is
			}
			switch {
			case runs && len(args) != 1:
				return usage("the file of a sandbox is verified by itself").hint("pass one FILE")
			case runs && (key != "" || len(checkpoints) > 0):
				return usage("nobody has signed the file of a sandbox").hint("verify it without --key and --checkpoint")
			case runs:
				return a.verifyRuns(args[0], strings.ToLower(head))
			}
			ids, err := a.identities(&unseal)
			if err != nil {
				return err
			}
			if len(args) > 0 && key == "" {
				return usage("a file cannot vouch for itself").hint("pass --key or --key-file with what \"enclave audit key\" printed")
			}
			return a.verify(c.Context(), args, key, checkpoints, ids)
		}}
	unseal.flags(c)
	fl := c.Flags()
	fl.StringVar(&key, "key", "", "public `KEY` of the log (without FILE: default the one that the server tells)")
	fl.StringVar(&keyFile, "key-file", "", "`FILE` with that key")
	fl.StringVar(&head, "head", "", "`SHA256` that an earlier verification of a sandbox's file printed")
	fl.StringArrayVar(&checkpoints, "checkpoint", nil, "`FILE` with a checkpoint that somebody kept; may be given several times")
	return c
}

func (a *app) verify(ctx context.Context, files []string, key string, checkpoints []string, ids []seal.Identity) error {
	var cl *client.Client
	if len(files) == 0 {
		var err error
		if cl, err = a.client(); err != nil {
			return err
		}
		if key == "" {
			cp, err := cl.AuditCheckpoint(ctx, 0, 0)
			if err != nil {
				return err
			}
			key = cp.Key
		}
	}
	if _, err := audit.ParseKey(key); err != nil {
		if _, bad := os.Lstat(key); bad == nil {
			return usage("%v", err).hint("for a file with the key there is --key-file " + clean(key))
		}
		return usage("%v", err)
	}
	var known []audit.Witnessed
	for _, name := range checkpoints {
		w, err := readCheckpoint(name, key)
		if err != nil {
			return err
		}
		known = append(known, w)
	}
	bar := a.bar("verified", "records")
	v, err := audit.NewVerifier(key, known, bar.at)
	if err != nil {
		return usage("%v", err)
	}
	for _, name := range files {
		done, err := a.verifyFile(v, name, key, ids)
		if f := (*failure)(nil); errors.As(err, &f) || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			return &failure{exit: exitUsage, Code: "not_an_export", Message: fmt.Sprintf("%s: %v", name, err)}
		}
		if done {
			return nil
		}
	}
	if cl != nil {
		body, err := cl.ExportAudit(ctx, nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if err := v.File(body); err != nil {
			return err
		}
	}
	bar.end()
	return a.verdict(v.Report())
}

// verifyFile gives a file to v. A proof of one record is judged at once.
func (a *app) verifyFile(v *audit.Verifier, name, key string, ids []seal.Identity) (done bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if b, _ := r.Peek(len(ageMagic)); string(b) == ageMagic {
		plain, err := seal.Decrypt(r, ids)
		if err != nil {
			return false, err
		}
		return false, v.File(plain)
	}
	if b, _ := r.Peek(len(proofMagic)); string(b) != proofMagic {
		return false, v.File(r)
	}
	raw, err := io.ReadAll(io.LimitReader(r, audit.MaxProofFile+1))
	if err != nil {
		return false, err
	}
	p, err := audit.ParseProof(bytes.TrimSpace(raw))
	if err != nil {
		return false, err
	}
	l, size, err := p.Check(key)
	if err != nil {
		return false, &failure{exit: exitDamaged, Code: "audit_tampered", Message: name + ": " + err.Error()}
	}
	out := map[string]any{"seq": l.Seq, "size": size, "at": l.At, "actor": l.Actor, "action": l.Action, "object": l.Object, "outcome": l.Outcome}
	return true, a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "proven: record %d of %d: %s, %s %s %s\n", l.Seq, size, l.At.Format(time.RFC3339), clean(l.Actor), clean(l.Action), clean(l.Object))
	})
}

const (
	ageMagic   = "age-encryption.org/v1"
	proofMagic = `{"enclave_audit_proof"`
)

func readCheckpoint(name, key string) (w audit.Witnessed, err error) {
	f, err := os.Open(name)
	if err != nil {
		return w, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, audit.MaxCheckpoint+1))
	if err != nil {
		return w, err
	}
	c, err := audit.OpenCheckpoint(string(b), key)
	if err != nil {
		return w, usage("%s: %v", name, err)
	}
	return audit.Witnessed{Name: name, Checkpoint: c}, nil
}

// verdict prints what a verification found; a finding is an error of its own.
func (a *app) verdict(r audit.Report) error {
	if r.Finding == nil {
		return a.print(r, func(w io.Writer) { verified(w, &r) })
	}
	var proven []string
	if r.Proven >= r.First {
		proven = append(proven, span(r.First, r.Proven, "is as it was signed", "are as they were signed"))
	}
	if from := max(r.Proven+1, r.First); r.Finding.Seq > from {
		proven = append(proven, span(from, r.Finding.Seq-1, "fits", "fit together"))
	}
	return &failure{exit: exitDamaged, Code: "audit_" + strings.ReplaceAll(r.Finding.Kind, " ", "_"), Message: r.Finding.Why, Finding: r.Finding, Hint: strings.Join(proven, "; ")}
}

func verified(w io.Writer, r *audit.Report) {
	fmt.Fprintf(w, "verified: %s %s\n", span(r.First, r.Last, "of", "of"), r.Origin)
	fmt.Fprintf(w, "  from %s to %s\n  root %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.Root)
	if r.First > 1 {
		fmt.Fprintf(w, "  %s archived: give the segments before this file\n", span(1, r.First-1, "is", "are"))
	}
	if r.Sealed > 0 {
		fmt.Fprintf(w, "  %s sealed or erased; the records are verified all the same\n", wire.Count(r.Sealed, "detail"))
	}
	for _, x := range r.Witnessed {
		word := "the same history"
		if x.Skipped {
			word = "of archived records: give their segments before this file"
		}
		fmt.Fprintf(w, "  %s: %s, %s\n", x.Name, wire.Count(x.Size, "record"), word)
	}
}

func (a *app) auditSegments() *cobra.Command {
	return &cobra.Command{Use: "segments", Short: "List what was archived", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := cl.AuditSegments(c.Context())
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			rows := [][]string{{"FIRST", "LAST", "FROM", "TO", "ARCHIVED", "SHA-256 OF THE EXPORT"}}
			for _, g := range list {
				rows = append(rows, []string{num(int(g.First)), num(int(g.Last)), when(&g.FirstAt), when(&g.LastAt), when(&g.ArchivedAt), g.FileSHA256})
			}
			table(w, rows...)
		})
	}}
}

func (a *app) auditArchive() *cobra.Command {
	var before, out string
	var to []string
	var dryRun bool
	c := &cobra.Command{Use: "archive", Short: "Move old records to a file; their hashes stay, so every proof does",
		Long: `Writes the oldest records to a file, verifies that file, and takes them out of the state.
Their hashes stay in the tree and the chain goes on from the last of them: verify the
file together with later exports, or alone. With --to the file is encrypted.`,
		Example: "  enclave audit archive --before 90d --out 2026-q1.segment --to age1…",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if before == "" || out == "" {
				return usage("archive takes --before and --out")
			}
			t, err := past(before, time.Now())
			if err != nil {
				return err
			}
			var recipients []seal.Recipient
			for _, text := range to {
				r, err := seal.ParseRecipient(text)
				if err != nil {
					return usage("--to: %v", err)
				}
				recipients = append(recipients, r)
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			return a.archive(c.Context(), cl, t, out, recipients, dryRun)
		}}
	fl := c.Flags()
	fl.StringVar(&before, "before", "", "records before this `TIME`: RFC 3339, or a duration ago (90d)")
	outFlag(c, &out, "`FILE` to write, which must not exist")
	fl.StringArrayVar(&to, "to", nil, "age or SSH `RECIPIENT` to encrypt the file to; may be given several times")
	fl.BoolVar(&dryRun, "dry-run", false, "show what it would do and change nothing")
	return c
}

// archive writes the segment, reads it back and verifies it, and only then asks for the
// records to be taken out: a crash before leaves a file too much, never one too few.
func (a *app) archive(ctx context.Context, cl *client.Client, before time.Time, out string, to []seal.Recipient, dryRun bool) error {
	cp, err := cl.AuditCheckpoint(ctx, 0, 0)
	if err != nil {
		return err
	}
	body, err := cl.ExportAudit(ctx, url.Values{"before": {before.Format(time.RFC3339Nano)}})
	if err != nil {
		return err
	}
	defer body.Close()
	part := out + ".part"
	if _, err := os.Lstat(out); err == nil {
		return usage("%s exists", out)
	}
	if _, err := copyNew(part, body); err != nil {
		return err
	}
	defer os.Remove(part)
	in, report, err := inspectSegment(part, cp.Key, a.bar("verified", "records"))
	if err != nil {
		return err
	}
	if report.Finding != nil {
		return a.verdict(report)
	}
	if dryRun {
		return a.print(in, func(w io.Writer) { fmt.Fprintf(w, "would archive %s\n", span(report.First, in.Last, "", "")) })
	}
	if err := keepSegment(part, out, to); err != nil {
		return err
	}
	seg, err := cl.ArchiveAudit(ctx, in)
	if err != nil {
		return err
	}
	return a.print(seg, func(w io.Writer) {
		fmt.Fprintf(w, "%s has %s; keep it: nothing else has what is in it\n", out, span(seg.First, seg.Last, "now", "now"))
	})
}

// inspectSegment verifies a segment as it stands on the disk, and says what the server
// asks of who has it.
func inspectSegment(name, key string, bar *bar) (in api.AuditArchive, r audit.Report, err error) {
	f, err := os.Open(name)
	if err != nil {
		return in, r, err
	}
	defer f.Close()
	sum := sha256.New()
	v, err := audit.NewVerifier(key, nil, bar.at)
	if err == nil {
		err = v.File(io.TeeReader(f, sum))
	}
	if err != nil {
		return in, r, err
	}
	bar.end()
	r = v.Report()
	in = api.AuditArchive{Last: r.Last, LastHash: fmt.Sprintf("%x", v.LastHash()), FileSHA256: fmt.Sprintf("%x", sum.Sum(nil))}
	return in, r, nil
}

// keepSegment puts a verified segment in its place, encrypted if it has recipients.
func keepSegment(part, out string, to []seal.Recipient) error {
	f, err := os.Open(part)
	if err != nil {
		return err
	}
	defer f.Close()
	if len(to) == 0 {
		_, err := copyNew(out, f)
		return err
	}
	r, w := io.Pipe()
	go func() {
		enc, err := seal.Encrypt(w, to)
		if err == nil {
			_, err = io.Copy(enc, f)
			err = errors.Join(err, enc.Close())
		}
		w.CloseWithError(err)
	}()
	_, err = copyNew(out, r)
	r.Close()
	return err
}

// span names the records from first to last, and what one of them or several do.
func span(first, last int64, one, several string) string {
	if first == last {
		return strings.TrimSpace(fmt.Sprintf("record %d %s", first, one))
	}
	return strings.TrimSpace(fmt.Sprintf("records %d to %d %s", first, last, several))
}
