package store

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"enclave/store/seal"
)

func enrolN(t *testing.T, s *Store, n int) error {
	t.Helper()
	_, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n)})
	return err
}

// TestDiskFull lets the disk take a random number of writes, then none, then all again.
// Changes are refused whole, reads go on, and nothing has to be done when there is room.
func TestDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine, and long under the race detector")
	}
	dir := rotatable(t, 5)
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var room atomic.Int64
	room.Store(1 << 40)
	s.vfs.Inject(func(at seal.At) seal.Fault {
		if at == seal.AtWrite && room.Add(-1) < 0 {
			return seal.Full
		}
		return seal.NoFault
	})
	systems, refused, healed := 5, 0, 0
	for n := range 60 {
		room.Store(rand.Int64N(60))
		for i := range 10 {
			err := enrolN(t, s, 1000+n*100+i)
			if err == nil {
				systems++
				continue
			}
			if !errors.Is(err, ErrFull) {
				t.Fatalf("full disk: %v", err)
			}
			refused++
			if snap, err := s.Snapshot(t.Context()); err != nil || len(snap.Systems) != systems {
				t.Fatalf("read while full: %d systems of %d, %v", len(snap.Systems), systems, err)
			}
		}
		room.Store(1 << 40)
		if err := enrolN(t, s, 1000+n*100+50); err != nil {
			t.Fatalf("with room again: %v", err)
		}
		systems++
		healed++
	}
	if s.Failure() != nil {
		t.Errorf("a full disk is no failure: %v", s.Failure())
	}
	s.Close()
	wantWhole(t, dir, systems)
	t.Logf("%d changes refused on a full disk, 0 in part; %d of 60 healed by themselves; %d systems", refused, healed, systems)
}

// TestSyncFails: after a sync that failed nothing is acknowledged any more, and whoever
// runs the store is told. What was acknowledged before is there at the next start.
func TestSyncFails(t *testing.T) {
	lost := 0
	for n := range 12 {
		dir := rotatable(t, 5)
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		left := atomic.Int64{}
		left.Store(int64(n))
		s.vfs.Inject(func(at seal.At) seal.Fault {
			if at == seal.AtSync && left.Add(-1) == -1 { // once; the next would say that all is well
				return seal.Broken
			}
			return seal.NoFault
		})
		systems := 5
		for i := range 60 {
			if err = enrolN(t, s, 1000+i); err != nil {
				break
			}
			systems++
		}
		if !errors.Is(err, ErrDisk) {
			t.Fatalf("after %d syncs: %v", n, err)
		}
		select {
		case <-s.Failed():
		default:
			t.Error("nobody was told")
		}
		if !errors.Is(s.Failure(), seal.ErrSync) {
			t.Errorf("failure: %v", s.Failure())
		}
		if err := enrolN(t, s, 9999); err == nil {
			t.Error("a change was acknowledged after a failed sync")
		}
		s.Close()
		s, err = Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(t.Context())
		// The change whose sync failed was not acknowledged; it may be there whole.
		if err != nil || len(snap.Systems) < systems || len(snap.Systems) > systems+1 {
			t.Errorf("%d systems of %d, %v", len(snap.Systems), systems, err)
			lost++
		}
		s.Close()
		wantWhole(t, dir, len(snap.Systems))
	}
	t.Logf("12 failed syncs: stopped 12 of 12, %d lost", lost)
}

// TestPageFailsWhileOpen: a page that is damaged under a running store is not served,
// and whoever runs it is told.
func TestPageFailsWhileOpen(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine, and long under the race detector")
	}
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	fill(t, s, 2000)
	s.Close()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := os.OpenFile(filepath.Join(dir, dbName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	for at := int64(seal.PageSize); at < info.Size(); at += seal.PageSize {
		var b [1]byte
		f.ReadAt(b[:], at+100)
		b[0] ^= 1
		f.WriteAt(b[:], at+100)
	}
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("served: %v", err)
	}
	<-s.Failed()
	if !errors.Is(s.Failure(), ErrDamaged) {
		t.Errorf("failure: %v", s.Failure())
	}
}

// TestSlowReader holds a reader open over many changes: no writer waits for it, and it
// sees what it saw at first.
func TestSlowReader(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	fill(t, s, 10)
	slow, err := s.read.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback()
	count := func() (n int) {
		if err := slow.QueryRow("SELECT count(*) FROM systems").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	for n := range 1500 { // more than the log has before it is written back
		if err := s.Record(t.Context(), by(start), "x.y", "z", n); err != nil {
			t.Fatalf("change %d: %v", n, err)
		}
	}
	if n := count(); n != before {
		t.Errorf("it sees %d systems, %d before", n, before)
	}
}
