package seal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// disk records what reaches the system's layer, below the encryption.
type disk struct {
	ops  []op
	keep []any
}

// op is one operation: a write, a truncation (data nil) or a sync. acked is how many
// transactions had been acknowledged before it.
type op struct {
	file string // database or log
	sync bool
	off  int64
	data []byte
}

// record puts the disk under the files that v opens from now on.
func (d *disk) record(v *VFS) {
	sys := v.orgFn
	v.orgFn = func(tls *libc.TLS, vfs, name, pFile uintptr, flags int32, out uintptr) int32 {
		rc := sys(tls, vfs, name, pFile, flags, out)
		file := map[bool]string{true: "db", false: "wal"}[flags&sqlite3.SQLITE_OPEN_MAIN_DB != 0]
		if rc != sqlite3.SQLITE_OK || flags&(sqlite3.SQLITE_OPEN_MAIN_DB|sqlite3.SQLITE_OPEN_WAL) == 0 {
			return rc
		}
		orig := at[sqlite3.Tsqlite3_io_methods](at[sqlite3.Tsqlite3_file](pFile).FpMethods)
		table := alloc(tls, int(unsafe.Sizeof(*orig))) // for the life of the test
		t := at[sqlite3.Tsqlite3_io_methods](table)
		*t = *orig
		write, truncate, sync := function[ioArg](orig.FxWrite), function[sizeArg](orig.FxTruncate), function[delArg](orig.FxSync)
		var w ioArg = func(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32 {
			d.ops = append(d.ops, op{file: file, off: off, data: slices.Clone(bytesAt(buf, int(n)))})
			return write(tls, pFile, buf, n, off)
		}
		var c sizeArg = func(tls *libc.TLS, pFile uintptr, size int64) int32 {
			d.ops = append(d.ops, op{file: file, off: size})
			return truncate(tls, pFile, size)
		}
		var s delArg = func(tls *libc.TLS, pFile uintptr, flags int32) int32 {
			rc := sync(tls, pFile, flags)
			d.ops = append(d.ops, op{file: file, sync: true})
			return rc
		}
		d.keep = append(d.keep, w, c, s)
		t.FxWrite, t.FxTruncate, t.FxSync = pointer(w), pointer(c), pointer(s)
		at[sqlite3.Tsqlite3_file](pFile).FpMethods = table
		return rc
	}
}

// apply makes a file after o. With rng, the operation was under way when power went:
// each sector may be new, old, or torn at any byte.
func (o op) apply(b []byte, rng *rand.Rand) []byte {
	if o.data == nil {
		if rng != nil && rng.IntN(2) == 0 {
			return b
		}
		if o.off <= int64(len(b)) {
			return b[:o.off]
		}
		return append(b, make([]byte, o.off-int64(len(b)))...)
	}
	for at := 0; at < len(o.data); at += sectorSize {
		sector := o.data[at:min(at+sectorSize, len(o.data))]
		if rng != nil {
			switch rng.IntN(8) {
			case 0, 1, 2:
				continue
			case 3:
				sector = sector[:rng.IntN(len(sector))]
			}
		}
		end := int(o.off) + at + len(sector)
		if end > len(b) {
			b = append(b, make([]byte, end-len(b))...)
		}
		copy(b[int(o.off)+at:], sector)
	}
	return b
}

// image is what a disk holds if power goes after n operations: what was synced, and
// of the rest some sectors.
func image(start map[string][]byte, ops []op, rng *rand.Rand) map[string][]byte {
	files := maps.Clone(start)
	for f := range files {
		files[f] = slices.Clone(files[f])
	}
	synced := make(map[string]int) // operations of the file that the last sync covers
	for i, o := range ops {
		if o.sync {
			synced[o.file] = i
		}
	}
	for i, o := range ops {
		if o.sync {
			continue
		}
		r := rng
		if i < synced[o.file] {
			r = nil
		}
		files[o.file] = o.apply(files[o.file], r)
	}
	return files
}

// TestCrashImages takes the power away at every operation below the encryption, with
// several guesses each time at which unsynced sectors had reached the disk. What was
// acknowledged is there, what was not is there whole or not at all.
func TestCrashImages(t *testing.T) {
	const seed = 20260301
	rng := rand.New(rand.NewPCG(seed, 0))
	changes, wanted := 40, 800
	if testing.Short() {
		changes, wanted = 20, 150
	}
	if n, err := strconv.Atoi(os.Getenv("ENCLAVE_CRASH_IMAGES")); err == nil { // the long suite: 10000
		changes, wanted = 100, n
	}
	dir, root := t.TempDir(), NewRoot()
	path := filepath.Join(dir, "x.db")
	func() {
		db := connect(t, layer(t, root), path, "journal_mode(wal)", "synchronous(full)")
		defer db.Close()
		do(t, db, "CREATE TABLE change (id INTEGER PRIMARY KEY, v BLOB)")
		do(t, db, "CREATE TABLE total (n INTEGER, bytes INTEGER)")
		do(t, db, "CREATE INDEX by_size ON change (length(v), v)")
		do(t, db, "INSERT INTO total VALUES (0, 0)")
		do(t, db, "CREATE TABLE record (seq INTEGER PRIMARY KEY, prev BLOB, hash BLOB)")
		do(t, db, "CREATE TABLE node (place INTEGER PRIMARY KEY, hash BLOB)")
	}()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := map[string][]byte{"db": whole, "wal": nil}

	v, d := layer(t, root), new(disk)
	d.record(v)
	db := connect(t, v, path, "synchronous(full)", "wal_autocheckpoint(40)", "cache_size(8)")
	db.SetMaxOpenConns(1)
	trail := new(trail)
	var acked []int // operations recorded when change i was acknowledged
	for i := range changes {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			fmt.Sprintf("INSERT INTO change VALUES (%d, randomblob(%d))", i+1, 50+i*977%30_000),
			fmt.Sprintf("UPDATE change SET v = randomblob(length(v)) WHERE id %% 7 = %d", i%7),
			"UPDATE total SET n = n + 1, bytes = (SELECT sum(length(v)) FROM change)",
		} {
			if _, err := tx.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		if err := trail.append(tx, int64(i+1)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		acked = append(acked, len(d.ops))
	}
	syncs := 0
	for _, o := range d.ops {
		if o.sync {
			syncs++
		}
	}
	if syncs < changes || len(d.ops) < 5*changes {
		t.Fatalf("%d operations, %d syncs", len(d.ops), syncs)
	}

	check, images, inFlight := layer(t, root), 0, 0
	const guesses = 4
	step := max(1, len(d.ops)*guesses/wanted)
	for n := 0; n <= len(d.ops); n += step {
		want := 0
		for want < len(acked) && acked[want] <= n {
			want++
		}
		for guess := range guesses {
			files := image(start, d.ops[:n], rng)
			crashed := filepath.Join(dir, "crashed.db")
			for suffix, b := range map[string][]byte{"": files["db"], "-wal": files["wal"]} {
				if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			images++
			got, err := func() (int, error) {
				db := connect(t, check, crashed)
				defer db.Close()
				var n, rows, sum, bytes int
				if err := db.QueryRow("SELECT n, bytes, (SELECT count(*) FROM change), (SELECT coalesce(sum(length(v)), 0) FROM change) FROM total").Scan(&n, &bytes, &rows, &sum); err != nil {
					return 0, err
				}
				var verdict string
				if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil {
					return 0, err
				}
				if n != rows || bytes != sum || verdict != "ok" {
					return n, fmt.Errorf("%d changes in %d rows, %d bytes in %d, %s", n, rows, bytes, sum, verdict)
				}
				return n, checkTrail(db, int64(n))
			}()
			if err != nil || got < want || got > want+1 {
				t.Fatalf("seed %d, operation %d of %d, guess %d: %d changes there, %d acknowledged, %v", seed, n, len(d.ops), guess, got, want, err)
			}
			if got > want {
				inFlight++
			}
		}
	}
	t.Logf("%d images at %d operations (%d syncs) of %d changes: 0 lost, 0 in half, the audit chain and tree whole in each; in %d the change under way had made it", images, len(d.ops), syncs, changes, inFlight)
}
