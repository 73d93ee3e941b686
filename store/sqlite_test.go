package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"enclave/store/migrate"
	"enclave/wire"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func by(t time.Time) Change { return Change{By: "admin:test", At: t} }

// made returns an open store with an organisation in dir.
func made(t testing.TB, dir string, p InitParams, opts ...Option) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p.ID, p.CACert, p.CAKey, p.TicketKey = wire.NewOrgID(start), []byte{1}, []byte{2}, []byte{3}
	if _, err := s.Init(context.Background(), by(start), p); err != nil {
		t.Fatal(err)
	}
	return s
}

func keys32(n int) wire.Keys {
	k := [32]byte{byte(n >> 16), byte(n >> 8), byte(n), 1}
	return wire.Keys{Identity: k, WireGuard: k, Disco: k, Signature: []byte{1}}
}

func stateDir(t testing.TB) string { return filepath.Join(t.TempDir(), "state") }

func TestOpenFromEmpty(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	org, err := s.Org(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil { // Close is idempotent
		t.Fatal(err)
	}
	if _, err := s.Org(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed store says %v", err)
	}
	if _, err := s.Rename(t.Context(), by(start), "aaaaa", "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed store says %v", err)
	}
	if runtime.GOOS != "windows" {
		for _, name := range []string{"", dbName, lockName} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
	again, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Org(t.Context()); err != nil || got.ID != org.ID {
		t.Errorf("reopened as %s, %v", got.ID, err)
	}
	var version, app int
	if err := again.read.QueryRow("SELECT user_version, application_id FROM pragma_user_version, pragma_application_id").Scan(&version, &app); err != nil ||
		version != migrate.Latest() || app != applicationID {
		t.Errorf("version %d, application %x, %v", version, app, err)
	}
}

func TestBeforeInit(t *testing.T) {
	s, err := Open(t.Context(), stateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Org(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := s.CreateKey(t.Context(), by(start), KeyParams{Secret: SecretHash{1}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestEveryConnectionIsSafe looks at readers too, which Open does not.
func TestEveryConnectionIsSafe(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	for name, db := range map[string]*sql.DB{"writer": s.write.DB, "reader": s.read.DB} {
		for _, p := range pragmas {
			var got string
			if err := db.QueryRow("PRAGMA " + p.name).Scan(&got); err != nil || got != p.want {
				t.Errorf("%s: %s is %s, %v, want %s", name, p.name, got, err, p.want)
			}
		}
	}
	if _, err := s.read.Exec("DELETE FROM systems"); err == nil {
		t.Error("a reader wrote")
	}
	var version string
	if err := s.read.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil || older(version, minSQLite) {
		t.Errorf("SQLite %s, %v", version, err)
	}
	if !older("3.51.2", minSQLite) || !older("3.9.9", minSQLite) || older("3.51.3", minSQLite) || older("4.0.0", minSQLite) {
		t.Error("versions compare as text")
	}
}

func TestDirOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits")
	}
	dir := t.TempDir()
	for mode, want := range map[fs.FileMode]error{0o700: nil, 0o750: ErrOpenToOthers, 0o701: ErrOpenToOthers, 0o777: ErrOpenToOthers} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := CheckDir(dir); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("mode %o: got %v, want %v", mode, err, want)
		}
	}
	os.Chmod(dir, 0o755)
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrOpenToOthers) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("opened: %v", err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("left %v behind", list)
	}
}

// TestDamaged spoils a store in several ways. Each is refused by name, and not a
// byte of it changes.
func TestDamaged(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(db []byte) []byte
		want  error
		says  string // in a file in clear; of a sealed one, SQLite sees less
	}{
		"text":           {func([]byte) []byte { return []byte(strings.Repeat("hello world\n", 400)) }, ErrDamaged, ""},
		"cut short":      {func(b []byte) []byte { return b[:len(b)/8192*4096] }, ErrDamaged, ""},
		"page of zeroes": {func(b []byte) []byte { clear(b[4096*2 : 4096*3]); return b }, ErrDamaged, ""},
		"page of noise": {func(b []byte) []byte {
			for i := 4096; i < 3*4096; i++ {
				b[i] ^= 0x5a
			}
			return b
		}, ErrDamaged, ""},
		// Only quick_check sees this one: nothing reads that page at start.
		"an index":          {func(b []byte) []byte { clear(b[len(b)-3*4096 : len(b)-2*4096]); return b }, ErrDamaged, "Tree"},
		"another program's": {func(b []byte) []byte { copy(b[68:72], "ABCD"); return b }, ErrDamaged, "another program"},
		"newer":             {func(b []byte) []byte { copy(b[60:64], []byte{0, 0, 3, 231}); return b }, ErrNewer, "version 999"},
	} {
		for kind, opts := range map[string][]Option{"sealed": nil, "in clear": {inClear}} {
			if kind == "sealed" {
				if name == "newer" || name == "another program's" { // needs the key: see TestNewerStateIsLeftAlone
					continue
				}
				tc.says = ""
			}
			t.Run(kind+"/"+name, func(t *testing.T) { testDamaged(t, tc.spoil, tc.want, tc.says, opts) })
		}
	}
}

// inClear opens a store without the file layer.
func inClear(o *options) { WithoutSeal()(o) }

func testDamaged(t *testing.T, spoil func([]byte) []byte, want error, says string, opts []Option) {
	dir := stateDir(t)
	if err := made(t, dir, InitParams{}, opts...).Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, dbName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := spoil(whole)
	if err := os.WriteFile(path, spoilt, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, spoilt) {
		t.Errorf("the file was touched (%v)", err)
	}
	if _, err := Open(t.Context(), dir); errors.Is(err, ErrLocked) {
		t.Error("the lock was kept")
	}
}

func TestLogRefusesTampering(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
	for range 3 {
		if err := s.Record(ctx, by(start), "x.y", "z", nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{
		"UPDATE audit_records SET actor = 'x' WHERE seq = 2",
		"DELETE FROM audit_records WHERE seq = 4",
		"DELETE FROM audit_records",
		"INSERT OR REPLACE INTO audit_records SELECT org_id, seq, format, at, 'x', action, object, revision, outcome, request, subject, key, detail, prev_hash, hash FROM audit_records WHERE seq = 2",
		"INSERT INTO audit_records SELECT org_id, seq + 2, format, at, actor, action, object, revision, outcome, request, subject, key, detail, prev_hash, hash FROM audit_records WHERE seq = 4", // a gap
		"INSERT INTO audit_records SELECT org_id, seq + 1, format, at, actor, action, object, revision, outcome, request, subject, key, detail, zeroblob(32), hash FROM audit_records WHERE seq = 4",
		"UPDATE audit_hashes SET hash = zeroblob(32)",
		"DELETE FROM audit_hashes",
		"INSERT OR REPLACE INTO audit_hashes SELECT org_id, place, zeroblob(32) FROM audit_hashes WHERE place = 1",
		"INSERT INTO audit_hashes SELECT org_id, 2 + max(place), hash FROM audit_hashes",
		"INSERT INTO audit_segments SELECT org_id, 1, 4, 0, 0, zeroblob(32), '', zeroblob(32), 0 FROM audit_log", // the last record
		"INSERT INTO audit_segments SELECT org_id, 2, 3, 0, 0, zeroblob(32), '', zeroblob(32), 0 FROM audit_log", // a gap
		"DELETE FROM audit_subjects",
		"UPDATE audit_subjects SET subject = 'x'",
		"UPDATE audit_subjects SET secret = NULL", // without an instant
	} {
		if _, err := s.write.Exec(query); err == nil {
			t.Errorf("accepted: %s", query)
		}
	}
	if h, err := s.VerifyAudit(ctx, nil); h.Checkpoint.Size != 4 || err != nil {
		t.Fatalf("%d records, %v", h.Checkpoint.Size, err)
	}
	// Who drops the triggers first is found out by the chain.
	for _, query := range []string{"DROP TRIGGER audit_records_no_update", "UPDATE audit_records SET actor = 'x' WHERE seq = 2"} {
		if _, err := s.write.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.VerifyAudit(ctx, nil); !errors.Is(err, ErrChain) {
		t.Errorf("tampering went unnoticed: %v", err)
	}
}

// TestSmallPrefixFillsUp gives out each usable address once, then says so.
func TestSmallPrefixFillsUp(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{IPv4: netip.MustParsePrefix("10.9.8.240/28")}), t.Context()
	if _, err := s.CreateKey(ctx, by(start), KeyParams{Secret: SecretHash{1}}); err != nil {
		t.Fatal(err)
	}
	seen := make(map[netip.Addr]bool)
	for n := range 15 { // .240 to .254
		sys, _, err := s.Enrol(ctx, start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n + 1)})
		if err != nil || seen[sys.IPv4] {
			t.Fatalf("system %d: %s, %v", n, sys.IPv4, err)
		}
		seen[sys.IPv4] = true
	}
	if _, _, err := s.Enrol(ctx, start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(99)}); !errors.Is(err, ErrNoAddress) {
		t.Fatalf("got %v", err)
	}
	list, err := s.Systems(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteSystem(ctx, by(start), list[0].ID); err != nil {
		t.Fatal(err)
	}
	sys, _, err := s.Enrol(ctx, start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(99)})
	if err != nil || sys.IPv4 != list[0].IPv4 {
		t.Fatalf("%s after %s was freed, %v", sys.IPv4, list[0].IPv4, err)
	}
	if k, err := s.Keys(ctx); err != nil || k[0].Used != 16 {
		t.Errorf("the refused enrolment used the key: %d, %v", k[0].Used, err)
	}
}

func TestCancelledChangeLeavesNothing(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.change(ctx, "test", by(start), func(w *writing) error {
		if err := w.bump(ctx); err != nil {
			return err
		}
		cancel()
		return w.record(context.Background(), "x.y", "z", nil)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	rev, err := s.Revision(t.Context())
	if n, err2 := s.LastRecord(t.Context()); rev != 1 || n != 1 || err != nil || err2 != nil {
		t.Errorf("revision %d, %d records, %v, %v", rev, n, err, err2)
	}
}

// childEnv names the directory for this test binary when it runs as the second
// process of a test.
const childEnv, childTask = "ENCLAVE_STORE_CHILD", "ENCLAVE_STORE_TASK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir, os.Getenv(childTask)))
	}
	os.Exit(m.Run())
}

// child opens the store and, to be killed, enrols systems one after the other and
// prints each ID once the store has acknowledged it.
func child(dir, task string) int {
	if task == "rotate" {
		fmt.Println(rotateForever(dir))
		return 1
	}
	if first, ok := strings.CutPrefix(task, "rotate-online "); ok {
		n, _ := strconv.Atoi(first)
		fmt.Println(rotateOnlineForever(dir, n))
		return 1
	}
	if task == "upgrade" {
		fmt.Println("begun")
	}
	s, err := Open(context.Background(), dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if task == "upgrade" {
		fmt.Println("upgraded")
		return 0
	}
	if task == "hold" {
		fmt.Println("open")
		os.Stdin.Read(make([]byte, 1))
		return 0
	}
	if task == "plant" {
		if _, err := plant(s); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("planted")
		os.Stdin.Read(make([]byte, 1))
		return 0
	}
	first, _ := strconv.Atoi(task)
	for n := first; ; n++ {
		sys, _, err := s.Enrol(context.Background(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n)})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(sys.ID)
	}
}

func spawn(t *testing.T, dir, task string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childTask+"="+task)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestSecondProcess(t *testing.T) {
	dir := stateDir(t)
	cmd, out := spawn(t, dir, "hold")
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("child says %q", out.Text())
	}
	_, err := Open(t.Context(), dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Fatalf("got %v, want ErrLocked that names process %d", err, cmd.Process.Pid)
	}
	cmd.Process.Kill() // no clean-up of its own: the lock must go with the process
	cmd.Wait()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice in one process: %v", err)
	}
	s.Close()
}

// TestKilled kills the process in the middle of its work, several times over. What
// was acknowledged is there, the log is whole, and nothing is half there.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, ctx := stateDir(t), t.Context()
	s := made(t, dir, InitParams{})
	if _, err := s.CreateKey(ctx, by(start), KeyParams{Secret: SecretHash{1}, Automatic: true, Tags: []wire.Tag{"a"}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	acknowledged := make(map[wire.SystemID]bool)
	for round := range 4 {
		cmd, out := spawn(t, dir, strconv.Itoa(1+round*100_000))
		for range 20 + round*7 {
			if !out.Scan() {
				t.Fatalf("child ended: %v", out.Err())
			}
			id, err := wire.ParseSystemID(out.Text())
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[id] = true
		}
		cmd.Process.Kill()
		for out.Scan() { // acknowledged before the kill, read after it
			acknowledged[wire.SystemID(out.Text())] = true
		}
		cmd.Wait()
		if info, err := os.Stat(filepath.Join(dir, dbName+"-wal")); err != nil || info.Size() == 0 {
			t.Errorf("round %d: no WAL was left to recover (%v)", round, err)
		}
		s, err := Open(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[wire.SystemID]bool)
		for _, sys := range snap.Systems {
			there[sys.ID] = true
			if len(sys.Tags) != 1 {
				t.Errorf("system %s is half there", sys.ID)
			}
		}
		for id := range acknowledged {
			if !there[id] {
				t.Errorf("round %d: acknowledged system %s is lost", round, id)
			}
		}
		h, err := s.VerifyAudit(ctx, nil)
		n := h.Checkpoint.Size
		keys, err2 := s.Keys(ctx)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if want := int64(len(snap.Systems)); n != want+2 || int64(keys[0].Used) != want || snap.Revision != wire.Revision(want+1) {
			t.Errorf("round %d: %d systems, %d records, %d uses, revision %d", round, want, n, keys[0].Used, snap.Revision)
		}
		s.Close()
	}
}
