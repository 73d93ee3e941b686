package seal

import (
	"bytes"
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// layer registers a layer for the test.
func layer(t testing.TB, root *Root) *VFS {
	t.Helper()
	v, err := NewVFS(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// connect opens a database through the layer.
func connect(t testing.TB, v *VFS, path string, pragmas ...string) *sql.DB {
	t.Helper()
	q := url.Values{"_pragma": pragmas, "vfs": {v.Name()}}
	c, err := v.Connector("file:" + path + "?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	return db
}

func do(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func get[T any](t testing.TB, db *sql.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

const canary = "a canary that sings in clear text"

// TestEveryMode writes through every kind of file SQLite makes, reads it back with
// other handles and in another layer, and finds nothing of it on the disk.
func TestEveryMode(t *testing.T) {
	for _, mode := range []string{"wal", "delete", "truncate", "persist", "memory"} {
		t.Run(mode, func(t *testing.T) {
			dir, root := t.TempDir(), NewRoot()
			path := filepath.Join(dir, "x.db")
			v := layer(t, root)
			// A small cache spills pages in the middle of transactions, which rewrites
			// frames of the WAL in place.
			db := connect(t, v, path, "journal_mode("+mode+")", "synchronous(full)", "cache_size(4)", "temp_store(file)")
			db.SetMaxOpenConns(3)
			do(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, n INTEGER)")
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 400 {
				if _, err := tx.Exec("INSERT INTO t (v, n) VALUES (?, ?)", strings.Repeat(canary, 1+i%200), i); err != nil {
					t.Fatal(err)
				}
				if i%10 == 0 {
					if _, err := tx.Exec("UPDATE t SET n = n + 1 WHERE id % 7 = 0; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; RELEASE s"); err != nil {
						t.Fatal(err)
					}
				}
			}
			noneOf(t, dir) // spilt, not committed
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			noneOf(t, dir)
			if n := get[int](t, db, "SELECT count(*) FROM (SELECT v FROM t ORDER BY v, n)"); n != 400 { // a sorter
				t.Fatalf("%d rows", n)
			}
			do(t, db, "DELETE FROM t WHERE id % 3 = 0")
			do(t, db, "CREATE INDEX i ON t (v)")
			do(t, db, "VACUUM")
			noneOf(t, dir)
			want := get[string](t, db, "SELECT hex(group_concat(id || v || n)) FROM t")
			db.Close()
			noneOf(t, dir)

			again := connect(t, layer(t, root), path, "journal_mode("+mode+")")
			if got := get[string](t, again, "SELECT hex(group_concat(id || v || n)) FROM t"); got != want {
				t.Error("read back something else")
			}
			if got := get[string](t, again, "PRAGMA integrity_check"); got != "ok" {
				t.Error(got)
			}
		})
	}
}

// noneOf fails when a file of dir has the canary, SQLite's magic or a file SQLite
// would map.
func noneOf(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{canary[:12], "SQLite", "CREATE"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s has %q in clear", filepath.Base(name), word)
			}
		}
		if strings.HasSuffix(name, "-shm") {
			t.Errorf("there is a file %s", name)
		}
	}
}

// TestLocks walks through what SQLite's locks of the log's index may and may not.
func TestLocks(t *testing.T) {
	tls := libc.NewTLS()
	defer tls.Close()
	v := layer(t, NewRoot())
	a, b := &file{vfs: v, name: "x"}, &file{vfs: v, name: "x"}
	other := &file{vfs: v, name: "y"}
	p := alloc(tls, 8)
	defer free(tls, p)
	for _, f := range []*file{a, b, other} {
		if rc := f.shmMap(tls, 0, 0, 32768, 0, p); rc != sqlite3.SQLITE_OK || *at[uintptr](p) != 0 {
			t.Fatalf("a region nobody made: %d", rc)
		}
	}
	addr := make(map[*file]uintptr)
	for _, f := range []*file{a, b, other} {
		if rc := f.shmMap(tls, 0, 1, 32768, 1, p); rc != sqlite3.SQLITE_OK {
			t.Fatal(rc)
		}
		addr[f] = *at[uintptr](p)
	}
	if addr[a] != addr[b] || addr[a] == addr[other] {
		t.Error("one index for two databases, or two for one")
	}
	const shared, exclusive, lock, unlock = sqlite3.SQLITE_SHM_SHARED, sqlite3.SQLITE_SHM_EXCLUSIVE, sqlite3.SQLITE_SHM_LOCK, sqlite3.SQLITE_SHM_UNLOCK
	for i, step := range []struct {
		f        *file
		first, n int32
		flags    int32
		want     int32
	}{
		{a, 3, 1, lock | shared, sqlite3.SQLITE_OK},
		{a, 3, 1, lock | shared, sqlite3.SQLITE_OK}, // again: it has it
		{b, 3, 1, lock | shared, sqlite3.SQLITE_OK},
		{b, 3, 1, lock | exclusive, sqlite3.SQLITE_BUSY},
		{b, 1, 7, lock | exclusive, sqlite3.SQLITE_BUSY}, // all or none
		{a, 1, 1, lock | exclusive, sqlite3.SQLITE_OK},
		{b, 1, 1, lock | shared, sqlite3.SQLITE_BUSY},
		{other, 1, 7, lock | exclusive, sqlite3.SQLITE_OK},
		{a, 3, 1, unlock | shared, sqlite3.SQLITE_OK},
		{a, 3, 1, lock | exclusive, sqlite3.SQLITE_BUSY}, // b reads on
		{b, 3, 1, unlock | shared, sqlite3.SQLITE_OK},
		{a, 3, 5, lock | exclusive, sqlite3.SQLITE_OK},
		{b, 7, 1, lock | shared, sqlite3.SQLITE_BUSY},
		{a, 3, 5, unlock | exclusive, sqlite3.SQLITE_OK},
		{b, 7, 1, lock | shared, sqlite3.SQLITE_OK},
		{b, 1, 1, lock | exclusive, sqlite3.SQLITE_BUSY},
	} {
		if rc := step.f.shmLock(tls, 0, step.first, step.n, step.flags); rc != step.want {
			t.Errorf("step %d: %d, want %d", i, rc, step.want)
		}
	}
	a.shmUnmap(tls, 0, 0) // gives back what it holds
	if rc := b.shmLock(tls, 0, 1, 1, lock|exclusive); rc != sqlite3.SQLITE_OK {
		t.Error("a handle that is gone holds a lock")
	}
	b.shmUnmap(tls, 0, 0)
	other.shmUnmap(tls, 0, 0)
	if len(v.index) != 0 {
		t.Error("an index is left")
	}
}

// TestReadersSeeOneInstant lets readers stay in a transaction while a writer fills the
// log and writes it back over and over.
func TestReadersSeeOneInstant(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	v := layer(t, NewRoot())
	w := connect(t, v, path, "journal_mode(wal)", "wal_autocheckpoint(8)", "busy_timeout(5000)")
	w.SetMaxOpenConns(1)
	do(t, w, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, v BLOB)")
	do(t, w, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 40) INSERT INTO t SELECT i, 0, randomblob(2000) FROM n")
	r := connect(t, v, path, "busy_timeout(5000)")
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for ctx.Err() == nil {
				tx, err := r.BeginTx(context.Background(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				var first, least, most int
				for range 5 {
					if err := tx.QueryRow("SELECT min(n), max(n) FROM t").Scan(&least, &most); err != nil || least != most || first != 0 && least != first {
						t.Errorf("from %d to %d, before %d, %v", least, most, first, err)
					}
					first = least
				}
				tx.Rollback()
			}
		})
	}
	for range 300 {
		do(t, w, "UPDATE t SET n = n + 1, v = randomblob(2000)")
	}
	stop()
	group.Wait()
	if got := get[string](t, w, "PRAGMA integrity_check"); got != "ok" {
		t.Error(got)
	}
}

func TestCloseWhileOpen(t *testing.T) {
	v := layer(t, NewRoot())
	path := filepath.Join(t.TempDir(), "x.db")
	db := connect(t, v, path)
	do(t, db, "CREATE TABLE t (v)")
	v.Close()
	v.Close()
	do(t, db, "INSERT INTO t VALUES (1)") // opens a journal
	if n := get[int](t, db, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows", n)
	}
	if err := connect(t, v, path).Ping(); err == nil {
		t.Error("a closed layer opens files")
	}
}

// TestLayouts checks that both directions of the WAL's sizes agree and that every
// piece lies on sectors of its own.
func TestLayouts(t *testing.T) {
	c := walCodec{}
	used := make(map[int64]int64)
	for off := int64(0); off < 20*frameSize; off++ {
		disk, in, size, _ := piece(off)
		if disk%sectorSize != 0 || in >= size {
			t.Fatalf("offset %d at %d+%d", off, disk, in)
		}
		first := (disk + in) / sectorSize
		if start, ok := used[first]; ok && start != disk {
			t.Fatalf("sector %d holds two pieces", first)
		}
		used[first] = disk
	}
	for frames := range int64(5) {
		size := walHeader + frames*frameSize
		if got := c.logical(c.physical(size)); got != size {
			t.Errorf("%d frames: %d back as %d", frames, size, got)
		}
	}
	last := int64(0)
	for p := range int64(3 * frameOnDisk) {
		l := c.logical(p)
		if l < last || l > p {
			t.Fatalf("%d bytes on disk read as %d", p, l)
		}
		last = l
	}
}
