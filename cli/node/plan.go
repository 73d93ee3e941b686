package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"enclave/store"
	"enclave/wire/api"
)

// BackupPlan says how backups are made by themselves. The zero plan makes none.
type BackupPlan struct {
	Every time.Duration
	Keep  int    // how many stay; 0 keeps 7
	Dir   string // empty: in the state
}

const (
	// backupName is in UTC, so that names sort as the backups were made.
	backupName    = "enclave-20060102T150405Z.backup"
	backupPattern = "enclave-????????T??????Z.backup"

	defaultKeep = 7
	// backupRetry is how soon a backup that failed is tried again, unless the plan is
	// more eager.
	backupRetry = 10 * time.Minute
)

// plan makes backups.
type plan struct {
	BackupPlan
	version string
	log     *slog.Logger

	mu    sync.Mutex // guards what follows
	store *store.Store
	state api.BackupStatus
}

func newPlan(cfg BackupPlan, dir, version string, log *slog.Logger) (*plan, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &plan{BackupPlan: cfg, version: version, log: log}
	if cfg.Every <= 0 {
		return p, nil
	}
	if p.Keep <= 0 {
		p.Keep = defaultKeep
	}
	if p.Dir == "" {
		p.Dir = filepath.Join(dir, store.BackupDir)
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("backups: %w", err)
	}
	p.state = api.BackupStatus{Every: p.Every.String(), Dir: p.Dir}
	all, err := p.all()
	if err != nil {
		return nil, err
	}
	if len(all) > 0 { // the newest of before counts
		p.note(all[len(all)-1])
	}
	return p, nil
}

// all lists the backups of the plan, oldest first.
func (p *plan) all() ([]string, error) {
	list, err := filepath.Glob(filepath.Join(p.Dir, backupPattern))
	slices.Sort(list)
	return list, err
}

// note remembers a backup by its name; mu is held or not needed yet.
func (p *plan) note(path string) {
	at, err := time.Parse(backupName, filepath.Base(path))
	if err != nil {
		return
	}
	p.state.Last, p.state.File = &at, path
	if info, err := os.Stat(path); err == nil {
		p.state.Size = info.Size()
	}
}

// use makes the plan work on a store.
func (p *plan) use(st *store.Store) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store = st
}

// status is what came of it; nil without a plan.
func (p *plan) status() *api.BackupStatus {
	if p.Every <= 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	return &s
}

// run makes backups until ctx ends.
func (p *plan) run(ctx context.Context) error {
	if p.Every <= 0 {
		return nil
	}
	for {
		p.mu.Lock()
		st, now := p.store, p.store.Now()
		next := p.due(now)
		p.state.Next = next.UTC()
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next.Sub(now)):
		}
		p.once(ctx, st.Now().UTC())
	}
}

// due is when the next backup is, by control's time, which does not go back with the wall
// clock. A backup of a time that is still to come was made before somebody took the time
// back, and is not waited for. The caller holds mu.
func (p *plan) due(now time.Time) time.Time {
	after := func(at *time.Time, pause time.Duration) time.Time {
		if at == nil || at.After(now) {
			return now
		}
		return at.Add(pause)
	}
	if p.state.Failed != nil {
		return after(p.state.Failed, min(backupRetry, p.Every))
	}
	return after(p.state.Last, p.Every)
}

// once makes one backup and removes those that are too many.
func (p *plan) once(ctx context.Context, now time.Time) {
	p.mu.Lock()
	st := p.store
	p.mu.Unlock()
	path := filepath.Join(p.Dir, now.Format(backupName))
	err := store.ReplaceWith(path, func(f *os.File) error {
		_, err := st.Backup(ctx, f, store.BackupConfig{Made: now, Program: p.version})
		return err
	})
	if err == nil {
		err = st.Record(ctx, store.Change{By: "schedule", At: now}, "backup.create", "state", map[string]string{"file": filepath.Base(path)})
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = p.prune(path)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		failed := now
		p.state.Failed, p.state.Error = &failed, err.Error()
		p.log.Error("THE SCHEDULED BACKUP FAILED", "directory", p.Dir, "last_good", p.state.File, "error", err)
		return
	}
	p.state.Failed, p.state.Error = nil, ""
	p.note(path)
	p.log.Info("backup made", "file", path, "bytes", p.state.Size)
}

// prune removes the oldest. Those whose names are of a later time than that of the newest
// stay, and do not count: they were made before somebody took the time back.
func (p *plan) prune(newest string) error {
	list, err := p.all()
	list = slices.DeleteFunc(list, func(path string) bool { return path > newest })
	for len(list) > p.Keep {
		err = errors.Join(err, os.Remove(list[0]))
		list = list[1:]
	}
	return err
}
