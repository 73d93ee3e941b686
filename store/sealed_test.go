package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enclave/store/seal"
	"enclave/wire"
)

const canary = "canary-3f9c1d7be2"

// plant puts the canary into every text and blob of a row in every table. Checks and
// triggers are for what the program writes; here only the bytes count.
func plant(s *Store) (columns int, err error) {
	ctx := context.Background()
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for _, q := range []string{"PRAGMA foreign_keys = off", "PRAGMA ignore_check_constraints = on", "DROP TRIGGER IF EXISTS audit_records_in_order", "DROP TRIGGER IF EXISTS audit_hashes_in_order", "DROP TRIGGER IF EXISTS audit_segments_in_order"} {
		if err := run(ctx, conn, q); err != nil {
			return 0, err
		}
	}
	rows, err := conn.QueryContext(ctx, `SELECT m.name, group_concat(CASE c.type
			WHEN 'INTEGER' THEN '4711' WHEN 'BLOB' THEN 'CAST(''`+canary+`'' || zeroblob(15) AS BLOB)' ELSE '''`+canary+`''' END, ', '),
			sum(c.type <> 'INTEGER')
		FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' GROUP BY m.name`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var inserts []string
	for rows.Next() {
		var table, values string
		var n int
		if err := rows.Scan(&table, &values, &n); err != nil {
			return 0, err
		}
		columns += n
		inserts = append(inserts, "INSERT INTO "+table+" VALUES ("+values+")")
	}
	for _, q := range inserts {
		if err := run(ctx, conn, q); err != nil {
			return 0, fmt.Errorf("%s: %w", q, err)
		}
	}
	return columns, rows.Err()
}

// wantClean fails when a file of the state has the canary or a mark of SQLite. It
// returns how many bytes it looked at.
func wantClean(t *testing.T, dir string) (total int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		total += len(b)
		for _, word := range []string{canary, "SQLite", "CREATE TABLE", "organisation"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s has %q in clear", f.Name(), word)
			}
		}
		if strings.HasSuffix(f.Name(), "-shm") {
			t.Errorf("the log's index is on disk: %s", f.Name())
		}
	}
	return total
}

func TestNoCanaryOnDisk(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	columns, err := plant(s)
	if err != nil {
		t.Fatal(err)
	}
	open := wantClean(t, dir)
	var parcel bytes.Buffer
	if _, err := s.Backup(t.Context(), &parcel, BackupConfig{Made: start}); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{canary, "SQLite", "CREATE TABLE", "organisation"} {
		if bytes.Contains(parcel.Bytes(), []byte(word)) {
			t.Errorf("a backup has %q in clear", word)
		}
	}
	s.Close()
	t.Logf("%d columns planted: 0 hits in %d bytes open, %d closed", columns, open, wantClean(t, dir))
	// The test finds one where there is one.
	dir = stateDir(t)
	s = made(t, dir, InitParams{}, inClear)
	if _, err := plant(s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if b, _ := os.ReadFile(filepath.Join(dir, dbName)); !bytes.Contains(b, []byte(canary)) {
		t.Error("no canary in a file in clear")
	}
}

// TestNoCanaryAfterKill kills a process with the canaries in its log and its memory.
func TestNoCanaryAfterKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process")
	}
	dir := stateDir(t)
	made(t, dir, InitParams{}).Close()
	cmd, out := spawn(t, dir, "plant")
	if !out.Scan() || out.Text() != "planted" {
		t.Fatalf("child says %q", out.Text())
	}
	cmd.Process.Kill()
	cmd.Wait()
	if info, err := os.Stat(filepath.Join(dir, dbName+"-wal")); err != nil || info.Size() == 0 {
		t.Fatal("no log was left", err)
	}
	t.Logf("0 hits in %d bytes", wantClean(t, dir))
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var name string
	if err := s.read.QueryRow("SELECT name FROM tags WHERE name = ?", canary).Scan(&name); err != nil {
		t.Errorf("what was planted is lost: %v", err)
	}
	wantClean(t, dir)
}

func identity(t *testing.T) seal.Identity {
	t.Helper()
	id, _, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestIdentities opens a state with the right identity, another one and none.
func TestIdentities(t *testing.T) {
	dir, own, other := stateDir(t), identity(t), identity(t)
	s := made(t, dir, InitParams{}, WithIdentities(own))
	if how := s.Sealed(); !how.Made || how.Own || len(how.Recipients) != 1 || how.Recipients[0].String() != own.Recipient.String() {
		t.Errorf("sealed %v", how)
	}
	s.Close()
	if _, err := os.Stat(filepath.Join(dir, seal.IdentityName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an identity was left beside the state: %v", err)
	}
	for _, tc := range []struct {
		name string
		opts []Option
		want error
	}{
		{"the right one", []Option{WithIdentities(own)}, nil},
		{"one of two", []Option{WithIdentities(other, own)}, nil},
		{"another", []Option{WithIdentities(other)}, seal.ErrWrongIdentity},
		{"none", nil, seal.ErrNoIdentity},
	} {
		s, err := Open(t.Context(), dir, tc.opts...)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if err != nil && !strings.Contains(err.Error(), "unseal: ") {
			t.Errorf("%s: got %v", tc.name, err)
		}
		if s != nil {
			s.Close()
		}
	}
	if err := os.Remove(filepath.Join(dir, seal.KeyringName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, WithIdentities(own)); !errors.Is(err, seal.ErrNoKeyring) {
		t.Errorf("without a keyring: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, seal.KeyringName)); err == nil {
		t.Error("a new keyring was made for an old file")
	}
}

// TestOwnIdentity is a first start without one.
func TestOwnIdentity(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	if how := s.Sealed(); !how.Made || !how.Own {
		t.Errorf("sealed %+v", how)
	}
	s.Close()
	for _, name := range []string{seal.IdentityName, seal.KeyringName, dbName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	s, err := Open(t.Context(), dir)
	if err != nil || s.Sealed().Made {
		t.Fatal(err)
	}
	s.Close()
}

// TestTwoInstallsShareNothing compares every 16 bytes of what two first starts made.
func TestTwoInstallsShareNothing(t *testing.T) {
	a, b := stateDir(t), stateDir(t)
	made(t, a, InitParams{}).Close()
	made(t, b, InitParams{}).Close()
	for _, name := range []string{dbName, seal.KeyringName, seal.IdentityName} {
		x, err := os.ReadFile(filepath.Join(a, name))
		y, err2 := os.ReadFile(filepath.Join(b, name))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if name == seal.IdentityName { // its first lines are text
			x, y = x[bytes.LastIndexByte(x[:len(x)-1], '\n')+19:], y[bytes.LastIndexByte(y[:len(y)-1], '\n')+19:]
		}
		if name == seal.KeyringName { // its first words say what it is
			n := len("age-encryption.org/v1\n-> mlkem768x25519 ")
			x, y = x[n:], y[n:]
		}
		blocks := make(map[string]bool)
		for i := 0; i+16 <= len(x); i++ {
			blocks[string(x[i:i+16])] = true
		}
		same := 0
		for i := 0; i+16 <= len(y); i++ {
			if blocks[string(y[i:i+16])] {
				same++
			}
		}
		if same > 0 {
			t.Errorf("%s: %d common blocks of %d", name, same, len(y))
		}
	}
}

// TestFlippedBytes flips one bit in each page of a stopped state. Every one is found,
// by the start or by the first to read that page.
func TestFlippedBytes(t *testing.T) {
	dir, ctx := stateDir(t), t.Context()
	s := made(t, dir, InitParams{})
	for i := range 180 {
		if err := s.Record(ctx, by(start), "x.y", "z", strings.Repeat(fmt.Sprint(i), 1800)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	path := filepath.Join(dir, dbName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	pages, atStart := len(whole)/page, 0
	if pages < 200 {
		t.Fatalf("%d pages", pages)
	}
	step := 1
	if testing.Short() {
		step = 20
	}
	tried := 0
	for i := 0; i < pages; i += step {
		tried++
		spoilt := bytes.Clone(whole)
		spoilt[i*page+(i*977+13)%page] ^= 1 << (i % 8)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(ctx, dir)
		if err == nil {
			if _, err = s.VerifyAudit(ctx, nil); err == nil {
				_, err = s.Snapshot(ctx)
			}
			s.Close()
		} else {
			atStart++
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("page %d of %d: %v", i+1, pages, err)
		}
		c, err := Examine(ctx, dir, true, nil)
		if !errors.Is(errors.Join(err, c.PagesErr), ErrDamaged) {
			t.Errorf("page %d of %d is not found by a full check: %v", i+1, pages, err)
		}
	}
	t.Logf("%d pages of %d: %d found at start, %d when read, %d by a full check; 0 served", tried, pages, atStart, tried-atStart, tried)
}

// TestSecretDoesNotMove copies sealed secrets of a row to other places.
func TestSecretDoesNotMove(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	var ca []byte
	if err := s.read.QueryRow("SELECT ca_key FROM organisation").Scan(&ca); err != nil || len(ca) < 20 {
		t.Fatal(ca, err)
	}
	if org, err := s.Org(t.Context()); err != nil || !bytes.Equal(org.CAKey, []byte{2}) || !bytes.Equal(org.TicketKey, []byte{3}) {
		t.Fatalf("read back %v, %v", org, err)
	}
	if _, err := s.write.Exec("UPDATE organisation SET ticket_key = ca_key"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Org(t.Context()); !errors.Is(err, ErrDamaged) || !errors.Is(err, seal.ErrValue) {
		t.Errorf("got %v", err)
	}
}

// TestConvert seals a file in clear whose process was killed, log and all.
func TestConvert(t *testing.T) {
	dir, ctx := stateDir(t), t.Context()
	s := made(t, dir, InitParams{}, inClear)
	if _, err := s.CreateKey(ctx, by(start), KeyParams{Secret: SecretHash{1}, Name: canary, Automatic: true, Tags: []wire.Tag{"a"}}); err != nil {
		t.Fatal(err)
	}
	// In clear, secrets inside rows were too.
	if _, err := s.write.Exec("UPDATE organisation SET ca_key = x'02', ticket_key = x'03'"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, dbName)
	saved := make(map[string][]byte) // the files of a process that was killed
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		saved[path+suffix] = b
	}
	s.Close()
	for name, b := range saved {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, next), []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Sealed().Converted {
		t.Error("not converted")
	}
	keys, err := s.Keys(ctx)
	if err != nil || len(keys) != 1 || keys[0].Name != canary {
		t.Errorf("keys %v, %v", keys, err)
	}
	if h, err := s.VerifyAudit(ctx, nil); h.Checkpoint.Size != 2 || err != nil {
		t.Errorf("%d records, %v", h.Checkpoint.Size, err)
	}
	if org, err := s.Org(ctx); err != nil || !bytes.Equal(org.CAKey, []byte{2}) {
		t.Errorf("CA key %v, %v", org.CAKey, err)
	}
	if _, err := s.write.Exec("DELETE FROM audit_records"); err == nil {
		t.Error("the triggers were left behind")
	}
	wantClean(t, dir)
	if _, err := os.Stat(filepath.Join(dir, next)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the copy is still there", err)
	}
	s.Close()
	if s, err = Open(ctx, dir); err != nil || s.Sealed().Converted {
		t.Errorf("opened again: %v", err)
	}
	s.Close()
}
