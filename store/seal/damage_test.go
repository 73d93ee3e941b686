package seal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

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
