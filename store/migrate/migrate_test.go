package migrate

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	_ "modernc.org/sqlite"
)

func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func version(t *testing.T, db *sql.DB) (v int) {
	t.Helper()
	if err := db.QueryRow("PRAGMA user_version").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestUpFromEmptyAndAgain(t *testing.T) {
	db := open(t)
	for range 2 {
		if err := Up(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if v := version(t, db); v != Latest() {
			t.Fatalf("version %d, want %d", v, Latest())
		}
	}
	// The partition of every table is the organisation.
	rows, err := db.Query(`SELECT name FROM sqlite_schema s WHERE type = 'table'
		AND NOT EXISTS (SELECT 1 FROM pragma_table_info(s.name) WHERE name = 'org_id' AND pk > 0)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		t.Errorf("table %s has no org_id in its key", name)
	}
}

func files2(second string) fstest.MapFS {
	return fstest.MapFS{
		"0001_one.sql": {Data: []byte("CREATE TABLE a (x); INSERT INTO a VALUES (1);")},
		"0002_two.sql": {Data: []byte(second)},
	}
}

func TestFailedMigrationLeavesTheOneBefore(t *testing.T) {
	db := open(t)
	err := up(t.Context(), db, files2("CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);"))
	if err == nil || !strings.Contains(err.Error(), "0002_two.sql") {
		t.Fatalf("got %v", err)
	}
	var tables int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables != 1 || version(t, db) != 1 {
		t.Fatalf("%d tables at version %d, %v", tables, version(t, db), err)
	}
	if err := up(t.Context(), db, files2("CREATE TABLE b (x);")); err != nil || version(t, db) != 2 {
		t.Fatalf("version %d, %v", version(t, db), err)
	}
	// The first did not run again.
	var n int
	if err := db.QueryRow("SELECT count(*) FROM a").Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

func TestNumbersHaveNoGap(t *testing.T) {
	for _, name := range []string{"0003_gap.sql", "two.sql", "0001_again.sql"} {
		f := fstest.MapFS{"0001_one.sql": {}, name: {}}
		if _, err := load(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
