package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/xts"
	"modernc.org/libc"
	"modernc.org/sqlite"
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

// filled makes a database of about pages pages at path, WAL written back.
func filled(t testing.TB, v *VFS, path string, pages int) {
	t.Helper()
	db := connect(t, v, path, "journal_mode(wal)")
	do(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
	do(t, db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) INSERT INTO t SELECT i, randomblob(3500) FROM n", pages)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAll reads every row and says what was wrong.
func readAll(db *sql.DB) error {
	var n int
	return db.QueryRow("SELECT sum(length(v)) FROM t").Scan(&n)
}

// TestEveryFlippedByteIsFound flips one bit in each page, at another place each
// time. SQLite gets an error for that page and never its content.
func TestEveryFlippedByteIsFound(t *testing.T) {
	dir, root := t.TempDir(), NewRoot()
	path := filepath.Join(dir, "x.db")
	v := layer(t, root)
	filled(t, v, path, 200)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := len(whole) / pageSize
	if pages < 200 {
		t.Fatalf("%d pages", pages)
	}
	for i := range pages {
		spoilt := bytes.Clone(whole)
		spoilt[i*pageSize+(i*331)%pageSize] ^= 1 << (i % 8)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		db := connect(t, v, path)
		err := readAll(db)
		db.Close()
		var e *sqlite.Error
		if !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_IOERR_DATA && i > 0 {
			t.Errorf("page %d: %v", i+1, err)
		}
	}
	t.Logf("%d pages, all found", pages)
}

// TestMovedPagesAreFound swaps whole sealed pages: each is genuine, but not there.
func TestMovedPagesAreFound(t *testing.T) {
	dir, root := t.TempDir(), NewRoot()
	path := filepath.Join(dir, "x.db")
	v := layer(t, root)
	filled(t, v, path, 10)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := func(n int) []byte { return b[(n-1)*pageSize : n*pageSize] }
	hold := bytes.Clone(page(5))
	copy(page(5), page(6))
	copy(page(6), hold)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readAll(connect(t, v, path)); err == nil {
		t.Error("swapped pages were served")
	}
}

// TestRolesShareNothing puts the sealed bytes of one role where another's are: the
// same plaintext at the same sector has another ciphertext, and no page opens.
func TestRolesShareNothing(t *testing.T) {
	root := NewRoot()
	seen := make(map[string]role)
	for _, r := range []role{database, wal, journal, scratch, scratch} {
		b := make([]byte, sectorSize)
		newSectors(root, r).encrypt(b, 3)
		if other, ok := seen[string(b)]; ok {
			t.Errorf("%s and %s encrypt alike", r, other)
		}
		seen[string(b)] = r
		newSectors(root, r).decrypt(b, 3)
		if r != scratch && !bytes.Equal(b, make([]byte, sectorSize)) {
			t.Errorf("%s: no way back", r)
		}
	}
	page := make([]byte, pageSize)
	newPageMAC(root, wal).seal(page, 7)
	for _, tc := range []struct {
		m *pageMAC
		n int64
	}{{newPageMAC(root, database), 7}, {newPageMAC(root, wal), 8}, {newPageMAC(NewRoot(), wal), 7}} {
		if tc.m.open(bytes.Clone(page), tc.n) {
			t.Errorf("opened as %c %d", tc.m.head[0], tc.n)
		}
	}
	if !newPageMAC(root, wal).open(page, 7) || !bytes.Equal(page, make([]byte, pageSize)) {
		t.Error("the page itself does not open")
	}
}

// TestXTS holds the sectors against another implementation of the standard.
func TestXTS(t *testing.T) {
	key, b := make([]byte, 64), make([]byte, 3*sectorSize)
	for n := range uint64(300) {
		rand.Read(key)
		rand.Read(b)
		if n > 250 {
			n *= 1 << 50
		}
		other, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(b)
		for i := range uint64(3) {
			sector := want[i*sectorSize : (i+1)*sectorSize]
			other.Encrypt(sector, sector, n+i)
		}
		s, got := sectorsWith(key), bytes.Clone(b)
		if s.encrypt(got, int64(n)); !bytes.Equal(got, want) {
			t.Fatalf("sector %d: another ciphertext", n)
		}
		if s.decrypt(got, int64(n)); !bytes.Equal(got, b) {
			t.Fatalf("sector %d: no way back", n)
		}
	}
}

func TestWrongRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	filled(t, layer(t, NewRoot()), path, 3)
	before, _ := os.ReadFile(path)
	if err := readAll(connect(t, layer(t, NewRoot()), path)); err == nil {
		t.Error("opened with another root")
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was touched")
	}
}

// TestCopyOfOpenFiles is a crash as the disk sees it: the files as they are while
// the database is open, opened elsewhere. The log is recovered up to where it is
// whole.
func TestCopyOfOpenFiles(t *testing.T) {
	dir, root := t.TempDir(), NewRoot()
	path := filepath.Join(dir, "x.db")
	v := layer(t, root)
	db := connect(t, v, path, "journal_mode(wal)", "synchronous(full)")
	do(t, db, "CREATE TABLE t (v TEXT)")
	var sizes []int
	for i := range 30 {
		do(t, db, "INSERT INTO t VALUES (?)", fmt.Sprint(canary, i))
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, int(info.Size()))
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	rows := func(log []byte) int {
		t.Helper()
		copied := filepath.Join(t.TempDir(), "y.db")
		if err := errors.Join(os.WriteFile(copied, file, 0o600), os.WriteFile(copied+"-wal", log, 0o600)); err != nil {
			t.Fatal(err)
		}
		db := connect(t, v, copied)
		defer db.Close()
		return get[int](t, db, "SELECT count(*) FROM t")
	}
	for i, size := range sizes {
		if n := rows(log[:size]); n != i+1 {
			t.Errorf("log after commit %d: %d rows", i+1, n)
		}
		if n := rows(log[:size-1]); n != i {
			t.Errorf("log one byte short of commit %d: %d rows", i+1, n)
		}
		// The next commit was under way: it must not have touched this one.
		if i+1 < len(sizes) {
			torn := append(bytes.Clone(log[:size]), bytes.Repeat([]byte{0xa5}, 700)...)
			if n := rows(torn); n != i+1 {
				t.Errorf("noise after commit %d: %d rows", i+1, n)
			}
		}
	}
}

// TestPageOfTheLogIsChecked flips a byte under an open database: a reader that
// comes later gets an error.
func TestPageOfTheLogIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	v := layer(t, NewRoot())
	db := connect(t, v, path, "journal_mode(wal)", "wal_autocheckpoint(0)")
	db.SetMaxIdleConns(4)
	do(t, db, "CREATE TABLE t (v BLOB)")
	do(t, db, "INSERT INTO t VALUES (randomblob(20000))")
	f, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	var b [1]byte
	for off := int64(sectorSize + sectorSize + 2000); off < info.Size(); off += frameOnDisk {
		f.ReadAt(b[:], off)
		b[0] ^= 4
		f.WriteAt(b[:], off)
	}
	held, err := db.Conn(context.Background()) // the connection that has it all in its cache
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := readAll(db); err == nil {
		t.Error("a page with a wrong MAC was served from the log")
	}
}

// TestHolesAreFilled writes a page far behind the end, as SQLite may when it grows a
// file. What lies between is pages that open.
func TestHolesAreFilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	root := NewRoot()
	v := layer(t, root)
	db := connect(t, v, path)
	do(t, db, "CREATE TABLE t (v)")
	tls := libc.NewTLS()
	defer tls.Close()
	page := alloc(tls, pageSize)
	defer free(tls, page)
	copy(bytesAt(page, pageSize), canary)
	for pFile, f := range v.files {
		if rc := f.writeAt(tls, pFile, page, pageSize, 9*pageSize); rc != sqlite3.SQLITE_OK {
			t.Fatal(rc)
		}
		for _, bad := range []struct{ n, off int }{{pageSize, 100}, {100, 0}, {2 * pageSize, 0}} {
			if rc := f.writeAt(tls, pFile, page, int32(bad.n), int64(bad.off)); rc != sqlite3.SQLITE_IOERR_WRITE {
				t.Errorf("%d bytes at %d: %d", bad.n, bad.off, rc)
			}
		}
	}
	last := ""
	n, err := Pages(path, root, func(b []byte, _ int64) error { last = string(b[:len(canary)]); return nil })
	if n != 10 || err != nil || last != canary {
		t.Errorf("%d pages, the last %q, %v", n, last, err)
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

func TestRootIsNotPrinted(t *testing.T) {
	r := NewRoot()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, arg := range []any{r, struct{ R *Root }{r}} {
			if s := fmt.Sprintf(verb, arg); strings.Contains(s, fmt.Sprintf("%x", r.secret[:4])) || strings.Contains(s, fmt.Sprint(r.secret[0], r.secret[1])) {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
	r.Wipe()
	if *r != (Root{}) {
		t.Error("not wiped")
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
