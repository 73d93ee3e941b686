package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enclave/store/seal"
	"enclave/wire"
)

// rotatable is a state with some systems in it.
func rotatable(t *testing.T, systems int, opts ...Option) (dir string) {
	t.Helper()
	dir = stateDir(t)
	s := made(t, dir, InitParams{}, opts...)
	defer s.Close()
	if _, err := s.CreateKey(t.Context(), by(start), KeyParams{Secret: SecretHash{1}, Automatic: true, Tags: []wire.Tag{"a"}}); err != nil {
		t.Fatal(err)
	}
	for n := range systems {
		if _, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantWhole opens a state and reads everything in it.
func wantWhole(t *testing.T, dir string, systems int, opts ...Option) (roots int) {
	t.Helper()
	s, err := Open(t.Context(), dir, opts...)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer s.Close()
	snap, err := s.Snapshot(t.Context())
	if err != nil || len(snap.Systems) != systems {
		t.Errorf("%d systems, %v", len(snap.Systems), err)
	}
	if _, err := s.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if org, err := s.Org(t.Context()); err != nil || !bytes.Equal(org.CAKey, []byte{2}) || !bytes.Equal(org.TicketKey, []byte{3}) {
		t.Errorf("CA key %v, ticket key %v, %v", org.CAKey, org.TicketKey, err)
	}
	return len(s.keys.Roots())
}

func TestRotate(t *testing.T) {
	own := identity(t)
	dir := rotatable(t, 20, WithIdentities(own))
	path, ring := filepath.Join(dir, dbName), filepath.Join(dir, seal.KeyringName)
	before, err := os.ReadFile(path)
	stolen, err2 := os.ReadFile(ring)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	r, err := Rotate(t.Context(), dir, by(start), WithIdentities(own))
	if err != nil || r.Root != 2 || r.Pages != int64(len(before)/4096) {
		t.Fatalf("%+v, %v", r, err)
	}
	if roots := wantWhole(t, dir, 20, WithIdentities(own)); roots != 1 {
		t.Errorf("%d roots are left", roots)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+16 <= len(before) && i+16 <= len(after); i += 16 {
		if bytes.Equal(before[i:i+16], after[i:i+16]) {
			t.Fatalf("block %d is as before", i/16)
		}
	}
	// The old keyring is of no use for the new file.
	current, err := os.ReadFile(ring)
	if err := errors.Join(err, os.WriteFile(ring, stolen, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, WithIdentities(own)); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened with the keyring of before: %v", err)
	}
	if err := os.WriteFile(ring, current, 0o600); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, dir, 20, WithIdentities(own))
	if _, err := Rotate(t.Context(), dir, by(start), WithIdentities(identity(t))); !errors.Is(err, seal.ErrWrongIdentity) {
		t.Errorf("rotated by another: %v", err)
	}
}

// TestRotationStopsAnywhere leaves a state at each step of a rotation.
func TestRotationStopsAnywhere(t *testing.T) {
	at := start.Add(time.Hour)
	steps := []func(s *Store, dir string) error{
		func(s *Store, dir string) error { return s.keys.Grow(at) },
		func(s *Store, dir string) error { return s.resealRows(t.Context()) },
		func(s *Store, dir string) error { return errors.Join(s.read.Close(), s.write.Close()) },
		func(s *Store, dir string) error {
			return os.WriteFile(filepath.Join(dir, next), []byte("a part"), 0o600)
		},
		func(s *Store, dir string) error {
			path := filepath.Join(dir, dbName)
			old, err := s.keys.RootOf(path)
			newest, _, _ := s.keys.Newest()
			_, err2 := seal.Reseal(path, old, filepath.Join(dir, next), newest)
			return errors.Join(err, err2)
		},
		func(s *Store, dir string) error {
			return os.Rename(filepath.Join(dir, next), filepath.Join(dir, dbName))
		},
	}
	for n := range len(steps) + 1 {
		dir := rotatable(t, 5)
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps[:n] {
			if err := step(s, dir); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		wantWhole(t, dir, 5)
		if _, err := Rotate(t.Context(), dir, by(start)); err != nil {
			t.Errorf("after %d steps, again: %v", n, err)
		}
		if roots := wantWhole(t, dir, 5); roots != 1 {
			t.Errorf("after %d steps: %d roots are left", n, roots)
		}
	}
}

// TestRotationKilled kills a process that does nothing but rotate.
func TestRotationKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := rotatable(t, 10)
	rotations := 0
	for round := range 8 {
		cmd, out := spawn(t, dir, "rotate")
		for range 1 + round%3 {
			if !out.Scan() {
				t.Fatal("child ended")
			}
		}
		rotations += 1 + round%3
		// Somewhere in the next one, at another place each time.
		time.Sleep(time.Duration(round*3) * time.Millisecond)
		cmd.Process.Kill()
		drain(out)
		cmd.Wait()
		if roots := wantWhole(t, dir, 10); roots > 2 {
			t.Errorf("round %d: %d roots", round, roots)
		}
	}
	t.Logf("killed 8 times in %d rotations", rotations)
}

func drain(out *bufio.Scanner) {
	for out.Scan() {
	}
}

// rotateForever is what the child does.
func rotateForever(dir string) error {
	for {
		r, err := Rotate(context.Background(), dir, by(start))
		if err != nil {
			return err
		}
		fmt.Println(r.Root)
	}
}

func TestRecipientsChange(t *testing.T) {
	a, b := identity(t), identity(t)
	dir := rotatable(t, 3, WithIdentities(a))
	change := func(id seal.Identity, f func(k *seal.Keyring) error) error {
		return ChangeRecipients(t.Context(), dir, by(start), func(k *seal.Keyring) (any, error) { return nil, f(k) }, WithIdentities(id))
	}
	if err := change(a, func(k *seal.Keyring) error { return k.Add(b.Recipient, false) }); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, dir, 3, WithIdentities(a))
	wantWhole(t, dir, 3, WithIdentities(b))
	if err := change(b, func(k *seal.Keyring) error { return k.Remove(a.Recipient.String()) }); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, WithIdentities(a)); !errors.Is(err, seal.ErrWrongIdentity) {
		t.Errorf("a removed recipient: %v", err)
	}
	if err := change(b, func(k *seal.Keyring) error { return k.Remove(b.Recipient.String()) }); !errors.Is(err, seal.ErrLast) {
		t.Errorf("the last: %v", err)
	}
	s, err := Open(t.Context(), dir, WithIdentities(b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Audit(t.Context(), AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range list {
		if e.Action == "seal.recipients" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d records of two changes", n)
	}
}

// TestNobodyIsLetInUnrecorded: where the record of a change of recipients cannot be kept,
// or power goes before it is, the keyring is as it was, also of a state that is stopped.
func TestNobodyIsLetInUnrecorded(t *testing.T) {
	a, b := identity(t), identity(t)
	dir := rotatable(t, 3, WithIdentities(a))
	ctx, cancel := context.WithCancel(t.Context())
	err := ChangeRecipients(ctx, dir, by(start), func(k *seal.Keyring) (any, error) {
		defer cancel() // nothing more reaches the database
		return nil, k.Add(b.Recipient, false)
	}, WithIdentities(a))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("without a record: %v", err)
	}
	if s, err := Open(t.Context(), dir, WithIdentities(b)); !errors.Is(err, seal.ErrWrongIdentity) {
		t.Errorf("who was let in without a record opens it: %v", err)
		if err == nil {
			s.Close()
		}
	}
	wantWhole(t, dir, 3, WithIdentities(a))
}
