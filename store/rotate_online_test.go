package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enclave/store/seal"
	"enclave/wire"
)

// TestRotateUnderLoad rotates again and again while others write and read: nothing that
// was acknowledged is lost, nobody sees an error, and an old keyring opens nothing new.
func TestRotateUnderLoad(t *testing.T) {
	own := identity(t)
	dir := rotatable(t, 200, WithIdentities(own))
	old, err := os.ReadFile(filepath.Join(dir, seal.KeyringName))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var written, read atomic.Int64
	for w := range 2 {
		load.Go(func() {
			for n := 1000 + w*100_000; ctx.Err() == nil; n++ {
				if _, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n)}); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				written.Add(1)
			}
		})
		load.Go(func() {
			for ctx.Err() == nil {
				if snap, err := s.Snapshot(t.Context()); err != nil || len(snap.Systems) < 200 {
					t.Errorf("read: %d systems, %v", len(snap.Systems), err)
					return
				}
				read.Add(1)
			}
		})
	}
	var pauses []time.Duration
	for round := range 8 {
		var told int64
		r, err := s.Rotate(t.Context(), by(start), func(done, total int64) { told = total })
		if err != nil {
			t.Fatal(err)
		}
		if want := uint32(round + 2); r.Root != want || r.Pages == 0 || told == 0 {
			t.Errorf("root %d of %d, %d pages, %d told", r.Root, want, r.Pages, told)
		}
		pauses = append(pauses, r.Pause)
	}
	stop()
	load.Wait()
	slices.Sort(pauses)
	t.Logf("8 rotations, %d changes and %d snapshots meanwhile; writers paused %v (median), %v (longest)",
		written.Load(), read.Load(), pauses[len(pauses)/2], pauses[len(pauses)-1])
	s.Close()
	if roots := wantWhole(t, dir, 200+int(written.Load()), WithIdentities(own)); roots != 1 {
		t.Errorf("%d roots", roots)
	}
	if n, err := CheckPages(dir, ring(t, dir, own)); err != nil || n == 0 {
		t.Errorf("%d pages, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(dir, seal.KeyringName), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), dir, WithIdentities(own)); err == nil {
		s.Close()
		t.Error("the keyring of before opens what was written after")
	}
}

func ring(t *testing.T, dir string, ids ...seal.Identity) *seal.Keyring {
	t.Helper()
	k, err := seal.ReadKeyring(filepath.Join(dir, seal.KeyringName), ids)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRotateTakesTurns: one at a time, and a cancelled one leaves the old file in use.
func TestRotateTakesTurns(t *testing.T) {
	dir := rotatable(t, 50)
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var second error
	_, err = s.Rotate(ctx, by(start), func(done, total int64) {
		_, second = s.Rotate(t.Context(), by(start), nil)
		cancel()
	})
	if !errors.Is(second, ErrBusy) {
		t.Errorf("a second at the same time: %v", second)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, next)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy stays: %v", err)
	}
	// What was begun is ended by the next one, with the root that is there already.
	if r, err := s.Rotate(t.Context(), by(start), nil); err != nil || r.Root != 2 {
		t.Errorf("root %d, %v", r.Root, err)
	}
	s.Close()
	if roots := wantWhole(t, dir, 50); roots != 1 {
		t.Errorf("%d roots", roots)
	}
}

// TestRotateWaitsForReaders: a reader that does not end holds nobody up but the rotation.
func TestRotateWaitsForReaders(t *testing.T) {
	dir := rotatable(t, 5)
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slow, err := s.read.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := slow.QueryRow("SELECT count(*) FROM systems").Scan(&n); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { _, err := s.Rotate(t.Context(), by(start), nil); done <- err }()
	for i := range 20 {
		if _, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(100 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("rotated under a reader: %v", err)
	default:
	}
	slow.Rollback()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantWhole(t, dir, 25)
}

// TestRotateOnlineKilled kills a process that rotates and writes without an end.
func TestRotateOnlineKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := rotatable(t, 30)
	acknowledged, rotations := 0, 0
	for round := range 12 {
		cmd, out := spawn(t, dir, fmt.Sprintf("rotate-online %d", 1000+round*100_000))
		for range 5 + rand.IntN(60) {
			if !out.Scan() {
				t.Fatal("child ended")
			}
			switch out.Text() {
			case "written":
				acknowledged++
			case "rotated":
				rotations++
			default:
				t.Fatal(out.Text())
			}
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // any instant will do
		cmd.Process.Kill()
		for out.Scan() {
			if out.Text() == "written" {
				acknowledged++
			}
		}
		cmd.Wait()
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		snap, err := s.Snapshot(t.Context())
		// One more may have been written without its acknowledgement, in each round.
		if n := len(snap.Systems) - 30; err != nil || n < acknowledged || n > acknowledged+round+1 {
			t.Errorf("round %d: %d systems, %d acknowledged, %v", round, n, acknowledged, err)
		}
		s.Close()
		wantWhole(t, dir, len(snap.Systems))
	}
	t.Logf("12 kills, %d rotations, %d changes acknowledged, 0 lost", rotations, acknowledged)
}

func rotateOnlineForever(dir string, first int) error {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() {
		for n := first; ; n++ {
			if _, _, err := s.Enrol(ctx, start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: wire.Keys(keys32(n))}); err != nil {
				failed <- err
				return
			}
			fmt.Println("written")
		}
	}()
	go func() {
		for {
			if _, err := s.Rotate(ctx, by(start), nil); err != nil {
				failed <- err
				return
			}
			fmt.Println("rotated")
		}
	}()
	return <-failed
}

// TestRotationImages takes an image of the directory before every write and every sync of a
// rotation in use, as a kill there leaves it. Each opens, has what was acknowledged, and can
// be rotated to its end.
func TestRotationImages(t *testing.T) {
	dir := rotatable(t, 5)
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	type image struct {
		dir     string
		systems int // acknowledged by then
	}
	var images []image
	systems, taking := 5, true
	take := func() {
		if taking {
			to := stateDir(t)
			if err := errors.Join(os.CopyFS(to, os.DirFS(dir)), os.Chmod(to, 0o700)); err != nil {
				t.Error(err)
			}
			images = append(images, image{to, systems})
		}
	}
	old := s.vfs
	old.Inject(func(seal.At) seal.Fault { take(); return seal.NoFault })
	_, err = s.Rotate(t.Context(), by(start), func(done, total int64) {
		if taking = done < total; taking { // a change meanwhile, without an image of each of its writes
			take()
			return
		}
		if err := enrolN(t, s, 1000); err != nil {
			t.Error(err)
		}
		systems, taking = 6, true
	})
	if err != nil {
		t.Fatal(err)
	}
	take()
	s.Close()
	step, rotating, done := 1, 0, 0
	if testing.Short() {
		step = 8
	}
	for i := 0; i < len(images); i += step {
		at := images[i]
		name := fmt.Sprintf("image %d of %d", i, len(images))
		k := ring(t, at.dir, own(t, at.dir)...)
		if len(k.Roots()) > 1 {
			rotating++
		} else {
			done++
		}
		k.Wipe()
		roots := wantWhole(t, at.dir, at.systems)
		if _, err := Rotate(t.Context(), at.dir, by(start)); err != nil || roots > 2 {
			t.Errorf("%s: %d roots, rotated again: %v", name, roots, err)
		}
		if roots := wantWhole(t, at.dir, at.systems); roots != 1 {
			t.Errorf("%s: %d roots are left", name, roots)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if rotating == 0 {
		t.Error("no image is of the middle of a rotation")
	}
	t.Logf("%d images, %d of them between two roots", rotating+done, rotating)
}

// own is the identity beside a state.
func own(t *testing.T, dir string) []seal.Identity {
	t.Helper()
	ids, err := seal.ReadIdentities(filepath.Join(dir, seal.IdentityName))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
