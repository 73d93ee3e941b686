package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"enclave/store"
)

// TestBackupsGoByTheTimeOfTheState: each is made when it is due although the wall clock was
// set back by an hour, as it is in each bubble; and one whose name is of a time to come
// neither delays the next nor takes its place.
func TestBackupsGoByTheTimeOfTheState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	backups := filepath.Join(dir, store.BackupDir)
	seen := anHourAhead(t, dir)
	if err := os.MkdirAll(backups, 0o700); err != nil {
		t.Fatal(err)
	}
	name := func(at time.Time) string { return at.UTC().Format(backupName) }
	before, toCome := seen.Add(-20*time.Minute), seen.Add(240*time.Hour)
	for _, tt := range []struct {
		name string
		have time.Time
		want []string
	}{
		{"the clock was set back", before, []string{name(seen.Add(10 * time.Minute)), name(seen.Add(40 * time.Minute))}},
		{"the time was taken back", toCome, []string{name(seen.Add(30 * time.Minute)), name(seen.Add(60 * time.Minute)), name(toCome)}},
	} {
		if err := os.WriteFile(filepath.Join(backups, name(tt.have)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			st, err := store.Open(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			p, err := newPlan(BackupPlan{Every: 30 * time.Minute, Keep: 2}, dir, "test", nil)
			if err != nil {
				t.Fatal(err)
			}
			p.use(st)
			ctx, stop := context.WithTimeout(t.Context(), 65*time.Minute)
			defer stop()
			if err := p.run(ctx); err != nil {
				t.Fatal(err)
			}
			list, err := p.all()
			for i := range list {
				list[i] = filepath.Base(list[i])
			}
			if err != nil || !slices.Equal(list, tt.want) {
				t.Errorf("%s: %v, %v; want %v", tt.name, list, err, tt.want)
			}
			for _, file := range list {
				os.Remove(filepath.Join(backups, file))
			}
		})
	}
}
