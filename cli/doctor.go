package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/store"
	"enclave/store/migrate"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// verdict is what a check comes to.
type verdict string

// The verdicts.
const (
	fine  verdict = "ok"
	warn  verdict = "warn"
	bad   verdict = "fail"
	blank verdict = "skip" // does not apply here
)

// finding is one line of `doctor`.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Do      string  `json:"do,omitempty"` // what to do about it
}

// patient is what the checks look at. What one of them learns the next may use.
type patient struct {
	a       *app
	dir     string
	full    bool
	unseal  *unsealFlags
	control bool // a control plane's state, not an agent's or a relay's
	running bool
	locked  bool
	health  api.Health
	healthy error // of asking for it, or of looking
	looked  bool
	closed  error // nothing was given that opens the state, or the wrong thing
	now     time.Time

	agent      *api.AgentStatus // of the agent that runs on the state; see agentStatus
	askedAgent bool
}

// checks are all checks, in the order in which they run.
var checks = [...]struct {
	name string
	run  func(context.Context, *patient) finding
}{
	{"version", checkVersion},
	{"state directory", checkDirectory},
	{"process", checkProcess},
	{"keyring", checkKeyring},
	{"identity", checkIdentity},
	{"database", checkDatabase},
	{"pages", checkPages},
	{"integrity", checkIntegrity},
	{"audit trail", checkTrail},
	{"backups", checkBackups},
	{"clock", checkClock},
	{"agent", checkAgent},
	{"network", ofAgent(lookAtNetwork)},
	{"relays", ofAgent(lookAtRelays)},
	{"paths", ofAgent(lookAtPaths)},
	{"gateway", ofAgent(lookAtGateway)},
	{"DNS", checkDNS},
	{"disk space", checkSpace},
	{"memory", checkMemory},
	{"warnings", checkWarnings},
}

func (a *app) doctor() *cobra.Command {
	var f unsealFlags
	var full bool
	c := f.flags(&cobra.Command{Use: "doctor", Short: "Look for what is wrong with the state on this machine",
		Long: `Looks at the state of a control plane, a relay or an agent and at this machine; of an agent
that runs also at its network, relays, paths, gateway and names. With --full
it deciphers and checks every page of the database, has SQLite check what they say, and
follows the whole audit trail; where a control plane runs on the state, it does that
itself while it goes on. Nothing is changed. The exit code is 7 when a check fails, and 2
when none does and what would open the state was not given: then nobody has looked into it.`,
		Example: "  enclave doctor --state lab\n  enclave doctor --full --state lab --json",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.stateDir()
			if err != nil {
				return err
			}
			p := &patient{a: a, dir: dir, full: full, unseal: &f, control: !noDatabase(dir), now: time.Now()}
			list, failed := []finding{}, 0
			for _, check := range checks {
				found := check.run(c.Context(), p)
				found.Check = check.name
				if found.Verdict == bad {
					failed++
				}
				list = append(list, found)
			}
			if err := a.print(list, func(w io.Writer) { printFindings(w, list) }); err != nil {
				return err
			}
			if failed > 0 {
				return &failure{exit: exitDamaged, Code: "unwell", Message: fmt.Sprintf("%d of %s failed", failed, wire.Count(len(list), "check"))}
			}
			return p.closed
		}})
	c.Flags().BoolVar(&full, "full", false, "check every page and every audit record")
	return c
}

func printFindings(w io.Writer, list []finding) {
	rows := [][]string{{"CHECK", "VERDICT", "WHAT"}}
	for _, f := range list {
		rows = append(rows, []string{f.Check, string(f.Verdict), clean(f.Detail)})
	}
	table(w, rows...)
	for _, f := range list {
		if f.Do != "" && f.Verdict != fine {
			fmt.Fprintf(w, "%s: %s\n", f.Check, clean(f.Do))
		}
	}
}

func found(v verdict, do, format string, args ...any) finding {
	return finding{Verdict: v, Detail: fmt.Sprintf(format, args...), Do: do}
}

const doRestore = "stop the process, move the state away and run: enclave backup restore FILE --state NEW-DIR"

func checkVersion(context.Context, *patient) finding {
	b := build()
	return found(fine, "", "%s, %s, %s, schema %d", b.Version, b.Go, b.Platform, migrate.Latest())
}

func checkDirectory(_ context.Context, p *patient) finding {
	info, err := os.Stat(p.dir)
	if err != nil {
		return found(bad, "pass --state with the directory of \"enclave up\", a relay or an agent", "%v", err)
	}
	if err := store.CheckRestored(p.dir); err != nil {
		return found(bad, "enclave backup restore FILE --state "+p.dir, "%v", err)
	}
	if !privateModes {
		return found(blank, "", "this system has no file modes")
	}
	var open []string
	if info.Mode().Perm()&0o077 != 0 {
		open = append(open, p.dir)
	}
	err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			open = append(open, path)
		}
		return nil
	})
	switch {
	case err != nil:
		return found(bad, "run it as the user that owns the state", "%v", err)
	case len(open) > 0:
		return found(bad, "chmod -R go= "+p.dir, "open to others: %s", strings.Join(open, ", "))
	}
	return found(fine, "", "%s, open to nobody else", p.dir)
}

func checkProcess(ctx context.Context, p *patient) finding {
	if !p.control {
		return found(blank, "", "no control plane has its state here")
	}
	lock, err := store.LockDir(p.dir, "enclave")
	switch {
	case errors.Is(err, store.ErrLocked):
		p.running = true
	case err != nil:
		return found(bad, "", "%v", err)
	default:
		lock.Close()
	}
	seal, err := p.a.liveSeal(ctx)
	p.locked = err == nil && seal.State != api.SealOpen
	switch {
	case p.locked:
		return found(warn, "enclave seal unlock", "a control plane runs and its state is %s", seal.State)
	case p.running && err != nil:
		return found(bad, "", "a control plane runs here, and its API does not answer: %v", err)
	case p.running:
		return found(fine, "", "a control plane runs here")
	}
	return found(fine, "", "none runs; the state was looked at directly")
}

func checkKeyring(ctx context.Context, p *patient) finding {
	s, err := p.a.sealer(p.unseal)
	if err != nil {
		return found(bad, "", "%v", err)
	}
	st, err := s.Status(false)
	switch {
	case errors.Is(err, node.ErrNoState):
		return found(blank, "", "nothing is sealed here")
	case errors.Is(err, seal.ErrNoIdentity), errors.Is(err, seal.ErrWrongIdentity):
		if !p.running && p.agentStatus(ctx) == nil {
			p.closed = err
		}
		return found(warn, "pass --identity FILE or --passphrase-file FILE", "not looked at: %v", err)
	case errors.Is(err, fs.ErrPermission):
		return found(bad, "run it as the user that owns the state", "%v", err)
	case err != nil:
		return found(bad, "put keyring.age back from a copy of the directory, or restore a backup", "%v", err)
	case st.Unfinished:
		return found(warn, "enclave seal rotate", "a rotation was interrupted")
	}
	return found(fine, "", "root %d of %s for %s", st.Root, st.Made.Format(time.DateOnly), wire.Count(len(st.Recipients), "recipient"))
}

func checkIdentity(_ context.Context, p *patient) finding {
	if _, err := os.Lstat(filepath.Join(p.dir, seal.IdentityName)); err != nil {
		return found(fine, "", "not in the state directory")
	}
	return found(warn, "see \"enclave seal --help\" for how to keep it elsewhere", "%s lies in the state: whoever copies the whole directory reads it", seal.IdentityName)
}

// look asks the running control plane how its state is, or looks at the state.
func (p *patient) look(ctx context.Context) {
	if p.looked {
		return
	}
	p.looked = true
	pr := p.a.progress("doctor")
	defer pr.end()
	if p.running {
		cl, err := p.a.client()
		if err == nil {
			p.health, err = cl.Health(ctx, p.full)
		}
		p.healthy = err
		return
	}
	ids, err := p.a.identities(p.unseal)
	if err != nil {
		p.healthy = err
		return
	}
	c, err := store.Examine(ctx, p.dir, p.full, pr.at, store.WithIdentities(ids...))
	p.health = api.Health{Now: p.now, Revision: c.Revision, Schema: c.Schema, Pages: c.Pages, Records: c.Records, Checked: p.full}
	p.health.Latest = c.Latest
	if c.Newest > 0 {
		p.health.Newest = time.Unix(0, c.Newest).UTC()
	}
	for _, e := range []struct {
		err  error
		text *string
	}{{c.PagesErr, &p.health.PagesErr}, {c.IntegrityErr, &p.health.IntegrErr}, {c.ChainErr, &p.health.ChainErr}} {
		if e.err != nil {
			*e.text = e.err.Error()
		}
	}
	p.healthy = err
}

func checkDatabase(ctx context.Context, p *patient) finding {
	if !p.control {
		return found(blank, "", "there is none")
	}
	if p.locked {
		return found(blank, "", "locked")
	}
	if p.closed != nil {
		return found(blank, "", "sealed: not looked at")
	}
	p.look(ctx)
	if err := p.healthy; err != nil {
		f := explain(err)
		do := f.Hint
		if f.exit == exitDamaged && f.Code == "damaged" {
			do = doRestore
		}
		return found(bad, do, "%s", f.Message)
	}
	return found(fine, "", "schema %d, revision %d, %d pages", p.health.Schema, p.health.Revision, p.health.Pages)
}

// deep is a check of --full.
func (p *patient) deep(text, ok string, args ...any) finding {
	switch {
	case !p.control || p.locked || p.closed != nil || p.healthy != nil:
		return found(blank, "", "not looked at")
	case !p.full:
		return found(blank, "", "--full looks at it")
	case text != "":
		return found(bad, doRestore, "%s", text)
	}
	return found(fine, "", ok, args...)
}

func checkPages(_ context.Context, p *patient) finding {
	return p.deep(p.health.PagesErr, "%s deciphered, every MAC right", wire.Count(p.health.Pages, "page"))
}

func checkIntegrity(_ context.Context, p *patient) finding {
	return p.deep(p.health.IntegrErr, "integrity_check and foreign keys")
}

func checkTrail(_ context.Context, p *patient) finding {
	return p.deep(p.health.ChainErr, "%s, chain and tree followed", wire.Count(p.health.Records, "record"))
}

// staleBackup is how old the last backup may be; a schedule may be late by half.
const staleBackup = 7 * 24 * time.Hour

func checkBackups(_ context.Context, p *patient) finding {
	if !p.control {
		return found(blank, "", "agents and relays enrol again instead")
	}
	const do = "run \"enclave up\" with --backup-every 24h, or \"enclave backup create FILE\""
	if b := p.health.Backup; b != nil {
		switch every, _ := time.ParseDuration(b.Every); {
		case b.Error != "":
			return found(bad, "look at "+b.Dir, "the last failed: %s", b.Error)
		case b.Last == nil || p.now.Sub(*b.Last) > every+every/2:
			return found(bad, "look at the log of the control plane", "the last of a schedule of %s is missing", b.Every)
		default:
			return found(fine, "", "%s, %s old, %s", b.File, p.now.Sub(*b.Last).Round(time.Second), wire.Count(b.Size, "byte"))
		}
	}
	last, err := node.LastBackup(filepath.Join(p.dir, store.BackupDir))
	switch {
	case err != nil:
		return found(warn, do, "%v", err)
	case last.File == "":
		return found(warn, do, "none in the state, and no schedule that says where they are")
	}
	text := fmt.Sprintf("the last is of %s, made by %s: %s", last.Made.Format(time.RFC3339), last.Kind, last.File)
	if p.now.Sub(last.Made) > staleBackup {
		return found(warn, do, "%s", text)
	}
	return found(fine, "", "%s", text)
}

// clockSlack is how far two clocks may be apart before certificates suffer.
const clockSlack = 30 * time.Second

func checkClock(ctx context.Context, p *patient) finding {
	const do = "set this machine's clock; certificates and expiries go by it"
	if h := &p.health; h.Latest.Sub(p.now) > wire.MaxClockSkew {
		since := ""
		if !h.BehindSince.IsZero() {
			since = " since " + h.BehindSince.UTC().Format(time.RFC3339)
		}
		return found(bad, "set this machine's clock; if it is right and was ahead before, stop the control plane and run: enclave clock believe",
			"it is %s, %s behind%s: the state goes on from %s, and what had ended stays so",
			p.now.UTC().Format(time.RFC3339), h.Latest.Sub(p.now).Round(time.Second), since, h.Latest.UTC().Format(time.RFC3339))
	}
	if n := p.health.Newest; !n.IsZero() && n.After(p.now.Add(clockSlack)) {
		return found(bad, do, "it is %s, and the newest audit record is of %s", p.now.UTC().Format(time.RFC3339), n.Format(time.RFC3339))
	}
	if f, off := agentClock(p.agentStatus(ctx)); off {
		return f
	}
	if server := p.serverClock(ctx); !server.IsZero() {
		if off := p.now.Sub(server).Round(time.Second); off.Abs() > clockSlack {
			return found(bad, do, "%s apart from the control plane's", off)
		}
	}
	return found(fine, "", "%s", p.now.UTC().Format(time.RFC3339))
}

// serverClock is the Date of the control plane that an agent's context or flags name.
func (p *patient) serverClock(ctx context.Context) time.Time {
	cl, err := p.a.client()
	if err != nil {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	date, err := cl.Date(ctx)
	if err != nil {
		return time.Time{}
	}
	at, _ := http.ParseTime(date)
	return at
}

const (
	// fewBytes is room in which a small enclave lives for weeks.
	fewBytes = 1 << 30
	noBytes  = 64 << 20
)

func checkSpace(_ context.Context, p *patient) finding {
	free, err := freeBytes(p.dir)
	switch {
	case err != nil:
		return found(blank, "", "%v", err)
	case free < noBytes:
		return found(bad, "make room: changes are refused when nothing is left", "%d MiB free", free>>20)
	case free < fewBytes:
		return found(warn, "make room, for a rotation and a restore, too", "%d MiB free", free>>20)
	}
	return found(fine, "", "%d GiB free", free>>30)
}

func checkMemory(context.Context, *patient) finding {
	if err := seal.CanPin(); err != nil {
		return found(warn, "raise the limit of locked memory (ulimit -l), or encrypt the swap", "keys cannot be kept out of the swap: %v", err)
	}
	return found(fine, "", "keys stay out of swap and core dumps")
}
