// Package migrate brings a store's file to the current schema.
//
// Migrations are the numbered .sql files beside this one. Each runs in one
// transaction together with the bump of SQLite's user_version, so that a crash
// leaves the schema before it or after it and never between. A released file is
// never edited; a change is a new file. There is no way down: an older program
// refuses a newer file (store.ErrNewer) instead of guessing at it.
package migrate

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

// migration is one numbered file.
type migration struct {
	version int
	name    string
	sql     string
}

// Latest is the schema version this program writes.
func Latest() int {
	list, err := load(files)
	if err != nil {
		panic(err) // the embedded files are part of the program; its test loads them
	}
	return len(list)
}

// load reads the migrations of a folder. Numbers begin at 1 and have no gap.
func load(f fs.FS) ([]migration, error) {
	names, err := fs.Glob(f, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	list := make([]migration, 0, len(names))
	for i, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", name, i+1)
		}
		text, err := fs.ReadFile(f, name)
		if err != nil {
			return nil, err
		}
		list = append(list, migration{i + 1, name, string(text)})
	}
	return list, nil
}

// Up runs every migration that the database does not have. It needs the one
// connection that may write.
func Up(ctx context.Context, db *sql.DB) error { return up(ctx, db, files) }

func up(ctx context.Context, db *sql.DB, f fs.FS) error {
	list, err := load(f)
	if err != nil {
		return err
	}
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	for _, m := range list[min(have, len(list)):] {
		if err := apply(ctx, db, m); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, m migration) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, m.sql); err != nil {
		return err
	}
	// PRAGMA takes no parameters; the number is ours.
	if _, err := tx.ExecContext(ctx, "PRAGMA user_version = "+strconv.Itoa(m.version)); err != nil {
		return err
	}
	return tx.Commit()
}
