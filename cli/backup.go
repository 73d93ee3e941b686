package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/store"
	"enclave/store/backup"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) backup() *cobra.Command {
	c := a.group("backup", "Back up the state, check backups and bring them back", a.backupCreate(), a.backupVerify(), a.backupRestore())
	c.Long = `A backup is one encrypted file: the whole state as it was at one instant. It is made while
the control plane runs and nobody waits for it. Who can open the state can open it, unless
other recipients are named; keep what opens it apart from the machine.

  enclave backup create /media/stick/enclave.backup
  enclave backup verify /media/stick/enclave.backup --identity operator.txt
  enclave backup restore /media/stick/enclave.backup --identity operator.txt --state new

"enclave up --backup-every 24h" makes them by itself.`
	return c
}

// backupShown is what the verbs print of a backup.
type backupShown struct {
	File       string           `json:"file"`
	Size       int64            `json:"size,omitempty"`
	Made       time.Time        `json:"made"`
	Org        wire.OrgID       `json:"organisation,omitempty"`
	Schema     int              `json:"schema"`
	Revision   wire.Revision    `json:"revision"`
	Audit      backup.AuditHead `json:"audit"`
	Pages      int64            `json:"pages"`
	Rows       map[string]int64 `json:"rows,omitempty"`
	Recipients []string         `json:"recipients,omitempty"`
	Checked    int64            `json:"audit_records_checked,omitempty"`
	Rollback   bool             `json:"rollback_accepted,omitempty"`
	State      string           `json:"state,omitempty"`
	TokenFile  string           `json:"token_file,omitempty"`
}

func show(file string, h *backup.Head) backupShown {
	return backupShown{File: file, Made: h.Made, Org: h.Org, Schema: h.Schema, Revision: h.Revision, Audit: h.Audit, Pages: h.Pages, Rows: h.Rows}
}

func (a *app) backupCreate() *cobra.Command {
	var to []string
	var overwrite bool
	var f unsealFlags
	c := f.flags(&cobra.Command{Use: "create FILE", Short: "Write a backup of this instant",
		Long: `Writes a backup of this instant, through the API of the running control plane, or from
the state itself when none runs on it.`,
		Example: "  enclave backup create /media/stick/enclave.backup --state lab\n  enclave backup create off-site.backup --recipient age1pq1… --json",
		Args:    exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil && !overwrite {
				return usage("%s is there already", args[0]).hint("choose another name, or add --overwrite")
			}
			order, recipients := api.BackupOrder{Recipients: to}, []seal.Recipient(nil)
			for _, text := range to {
				r, err := seal.ParseRecipient(text)
				if err != nil {
					return usage("--recipient: %v", err)
				}
				recipients = append(recipients, r)
			}
			out, err := a.makeBackup(c.Context(), args[0], &f, order, recipients)
			if err != nil {
				return err
			}
			out.Recipients = to
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s: revision %d, %d audit records, %d pages, %d bytes\n", out.File, out.Revision, out.Audit.Records, out.Pages, out.Size)
				if len(to) == 0 {
					fmt.Fprintln(w, "What opens the state opens it; keep that apart from this machine, or nothing will")
				}
			})
		}})
	c.Flags().StringArrayVar(&to, "recipient", nil, "`RECIPIENT` that can open it, age1… or an SSH public key; may be given several times (default who can open the state)")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE if it is there")
	return c
}

// makeBackup asks the running control plane, or opens the state when none runs.
func (a *app) makeBackup(ctx context.Context, file string, f *unsealFlags, order api.BackupOrder, to []seal.Recipient) (out backupShown, err error) {
	p := a.progress("backup")
	defer p.end()
	err = store.ReplaceWith(file, func(w *os.File) error {
		online, err := a.online()
		if err != nil {
			return err
		}
		var head backup.Head
		if online {
			err = a.fetchBackup(ctx, w, order, &head, p)
		} else {
			head, err = a.offlineBackup(ctx, w, f, to, p)
		}
		out = show(file, &head)
		if info, bad := w.Stat(); bad == nil {
			out.Size = info.Size()
		}
		return err
	})
	return out, err
}

// online reports whether a control plane runs: on the state at hand, or at an address
// that was named.
func (a *app) online() (bool, error) {
	if a.url != "" || a.Getenv("ENCLAVE_URL") != "" {
		return true, nil
	}
	dir, err := a.stateDir()
	if err != nil {
		return false, err
	}
	if err := store.CheckRestored(dir); err != nil {
		return false, err
	}
	if _, err := os.Lstat(filepath.Join(dir, store.DatabaseName)); err != nil {
		return true, nil // not here; the context or the environment says where
	}
	lock, err := store.LockDir(dir, "enclave")
	if errors.Is(err, store.ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Close()
}

func (a *app) fetchBackup(ctx context.Context, w io.Writer, order api.BackupOrder, head *backup.Head, p *progress) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	return cl.Backup(ctx, order, func(text []byte, r io.Reader) error {
		if err := json.Unmarshal(text, head); err != nil {
			return fmt.Errorf("the server does not say what is in the backup: %w", err)
		}
		buf, done := make([]byte, 256<<10), int64(0)
		for {
			n, err := r.Read(buf)
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			done += int64(n)
			p.at(done, head.Size())
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("the backup was cut off: %w", err)
			}
		}
	})
}

func (a *app) offlineBackup(ctx context.Context, w io.Writer, f *unsealFlags, to []seal.Recipient, p *progress) (head backup.Head, err error) {
	s, err := a.sealer(f)
	if err != nil {
		return head, err
	}
	st, err := store.Open(ctx, s.Dir, store.WithIdentities(s.Identities...))
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return st.Backup(ctx, w, store.BackupConfig{To: to, Made: time.Now(), Program: build().Version, Progress: p.at})
}

// openers are what opens a backup: what the flags say, else the identity in the state.
func (a *app) openers(f *unsealFlags) ([]seal.Identity, error) {
	ids, err := a.identities(f)
	if err != nil || len(ids) > 0 {
		return ids, err
	}
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	ids, err = seal.ReadIdentities(filepath.Join(dir, seal.IdentityName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, seal.ErrNoIdentity
	}
	return ids, err
}

func (a *app) backupVerify() *cobra.Command {
	var f unsealFlags
	var scratch string
	c := f.flags(&cobra.Command{Use: "verify FILE", Short: "Bring a backup back into a scratch place and check all of it",
		Long: `Brings a backup back into a scratch place, which is removed afterwards, and checks all of
it: the checksum, every page, SQLite's integrity_check and foreign keys, the chain and the
tree of the audit trail, and that every table has the rows that the backup says. What lies
in the scratch place is encrypted.`,
		Example: "  enclave backup verify enclave.backup --identity operator.txt",
		Args:    exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			ids, err := a.openers(&f)
			if err != nil {
				return err
			}
			out, err := a.verifyBackup(c.Context(), args[0], scratch, store.RestoreConfig{Identities: ids, At: time.Now()})
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is whole\n", out.File)
				printBackup(w, &out)
			})
		}})
	c.Flags().StringVar(&scratch, "scratch", "", "`DIR` with room for the database (default the system's)")
	return c
}

func printBackup(w io.Writer, b *backupShown) {
	rows := [][]string{{"made", b.Made.Format(time.RFC3339)}, {"organisation", orDash(string(b.Org))}, {"schema", num(b.Schema)},
		{"revision", num(int(b.Revision))}, {"audit records", fmt.Sprintf("%d, %d of them followed", b.Audit.Records, b.Checked)}, {"pages", num(int(b.Pages))}}
	for _, name := range []string{"systems", "policies", "enrolment_keys", "relays", "api_tokens"} {
		if n, ok := b.Rows[name]; ok {
			rows = append(rows, []string{name, num(int(n))})
		}
	}
	table(w, rows...)
}

func (a *app) verifyBackup(ctx context.Context, file, scratch string, cfg store.RestoreConfig) (out backupShown, err error) {
	r, err := os.Open(file)
	if err != nil {
		return out, usage("%v", err)
	}
	defer r.Close()
	dir, err := os.MkdirTemp(scratch, "enclave-verify-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := a.progress("verify")
	defer p.end()
	cfg.Progress = p.at
	res, err := store.VerifyBackup(ctx, r, dir, cfg)
	if err != nil {
		return out, err
	}
	out = show(file, &res.Head)
	out.Checked, out.Rollback = res.Checked, res.Rollback
	if info, err := r.Stat(); err == nil {
		out.Size = info.Size()
	}
	return out, nil
}

func (a *app) backupRestore() *cobra.Command {
	var f unsealFlags
	var witnesses []string
	var accept, dry bool
	c := f.flags(&cobra.Command{Use: "restore FILE", Short: "Make a state of a backup, where none is",
		Long: `Makes a state of a backup in --state, where none may be, after checking all of it. The
new state has keys of its own, which open with the --identity given here, and a new
administrator's token.

What was changed after the backup is gone, revocations among them. --witness names what
remembers more: an old state directory, a checkpoint of the audit trail, or what "backup
create --json" printed. A backup that is older than any of them is refused unless
--accept-rollback is given, which the audit trail then says.`,
		Example: "  enclave backup restore enclave.backup --identity operator.txt --state new\n  enclave backup restore enclave.backup --state new --witness damaged-state --accept-rollback",
		Args:    exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.stateDir()
			if err != nil {
				return err
			}
			ids, err := a.openers(&f)
			if err != nil {
				return err
			}
			cfg := store.RestoreConfig{Identities: ids, At: time.Now(), AcceptRollback: accept}
			for _, path := range witnesses {
				seen, err := witness(c.Context(), path, ids)
				if err != nil {
					return fmt.Errorf("--witness %s: %w", path, err)
				}
				cfg.Remembered = append(cfg.Remembered, seen)
			}
			if dry {
				out, err := a.verifyBackup(c.Context(), args[0], "", cfg)
				if err != nil {
					return err
				}
				return a.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "%s could be restored; nothing was done\n", out.File)
					printBackup(w, &out)
				})
			}
			out, err := a.restore(c.Context(), args[0], dir, cfg)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s holds the state of %s\n", dir, out.Made.Format(time.RFC3339))
				printBackup(w, &out)
				if out.Rollback {
					fmt.Fprintln(w, "It is older than what was remembered: changes since then are gone. Look at what has to be revoked again")
				}
				fmt.Fprintf(w, "A new administrator's token is in %s\n", out.TokenFile)
				start := "enclave up --state " + dir
				if file := first(f.identity, a.Getenv("ENCLAVE_IDENTITY_FILE")); file != "" {
					start += " --identity " + file
				}
				fmt.Fprintf(w, "Start it with: %s, and the --listen and --advertise of before, so that agents find it\n", start)
			})
		}})
	c.Flags().StringArrayVar(&witnesses, "witness", nil, "`PATH` that remembers how far the audit trail was; may be given several times")
	c.Flags().BoolVar(&accept, "accept-rollback", false, "restore although something remembers more")
	c.Flags().BoolVar(&dry, "dry-run", false, "check everything and restore nothing")
	return c
}

func (a *app) restore(ctx context.Context, file, dir string, cfg store.RestoreConfig) (out backupShown, err error) {
	r, err := os.Open(file)
	if err != nil {
		return out, usage("%v", err)
	}
	defer r.Close()
	p := a.progress("restore")
	defer p.end()
	cfg.Progress = p.at
	cfg.Finish = func(work string) error { // a state without an administrator is of no use
		return node.NewAdministrator(ctx, work, cfg.Identities, time.Now(), func(token string) error {
			return writeFile(filepath.Join(work, tokenFile), []byte(token+"\n"))
		})
	}
	res, err := store.Restore(ctx, r, dir, cfg)
	if err != nil {
		return out, err
	}
	out = show(file, &res.Head)
	out.Checked, out.Rollback, out.State, out.TokenFile = res.Checked, res.Rollback, dir, filepath.Join(dir, tokenFile)
	return out, nil
}

// maxWitness is more than any checkpoint.
const maxWitness = 1 << 20

// witness reads what somebody remembers of the audit trail.
func witness(ctx context.Context, path string, ids []seal.Identity) (seen backup.AuditHead, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return seen, usage("%v", err)
	}
	if info.IsDir() {
		if own, err := seal.ReadIdentities(filepath.Join(path, seal.IdentityName)); err == nil {
			ids = append(own, ids...)
		}
		c, err := store.Examine(ctx, path, false, nil, store.WithIdentities(ids...))
		return c.Head, err
	}
	f, err := os.Open(path)
	if err != nil {
		return seen, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxWitness))
	if err != nil {
		return seen, err
	}
	if len(raw) == 0 || raw[0] != '{' {
		seen.Checkpoint = string(raw)
		return seen, nil
	}
	var shown struct {
		Audit backup.AuditHead `json:"audit"`
		backup.AuditHead
	}
	if err := json.Unmarshal(raw, &shown); err != nil {
		return seen, usage("%v", err)
	}
	if seen = shown.Audit; seen.Records == 0 && seen.Checkpoint == "" {
		seen = shown.AuditHead
	}
	if seen.Records == 0 && seen.Checkpoint == "" {
		return seen, usage("it says nothing of an audit trail")
	}
	return seen, nil
}
