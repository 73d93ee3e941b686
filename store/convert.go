package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"enclave/store/seal"
	"enclave/wire"
)

// convert seals a database that is in clear. The sealed copy is written beside it,
// compared row by row, and renamed over it: a crash leaves one or the other, whole.
// SQLite keeps no free bytes in the old pages for the MAC, so the copy is made of
// rows and not of pages.
func convert(ctx context.Context, path, to string, keys *seal.Keyring) error {
	root, _, _ := keys.Newest()
	vfs, err := seal.NewVFS(root)
	if err != nil {
		return err
	}
	defer vfs.Close()
	// No foreign keys: tables come in the order of their making, not of their needs.
	db, err := connect(vfs, to, 1, "_pragma=journal_mode(delete)", "_pragma=foreign_keys(off)")
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := copyRows(ctx, conn, path, keys); err != nil {
		return err
	}
	if err := errors.Join(conn.Close(), db.Close()); err != nil {
		return err
	}
	// The old log was written back when the old file was let go. If it is still there,
	// it holds changes, and would be read as the log of the new file.
	for _, old := range []string{path + "-wal", path + "-shm", path + "-journal"} {
		if info, err := os.Stat(old); err == nil && info.Size() > 0 && !strings.HasSuffix(old, "-shm") {
			return fmt.Errorf("%s was not written back", old)
		}
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return seal.Rename(to, path)
}

// copyRows copies the database at path into the empty one of conn.
func copyRows(ctx context.Context, conn *sql.Conn, path string, keys *seal.Keyring) error {
	abs, err := absolute(path)
	if err != nil {
		return err
	}
	old := url.URL{Scheme: "file", Path: abs, RawQuery: "vfs=" + seal.System()}
	for _, step := range []func() error{
		func() error { return run(ctx, conn, "ATTACH ? AS old", old.String()) },
		func() error { return run(ctx, conn, "BEGIN IMMEDIATE") },
		func() error { return copyTables(ctx, conn) },
		func() error { return sealOrganisation(ctx, conn, keys) },
		func() error { return run(ctx, conn, "COMMIT") },
		func() error { return run(ctx, conn, "DETACH old") },
		func() error { return wantNone(ctx, conn, "SELECT * FROM pragma_foreign_key_check") },
		func() error {
			return wantNone(ctx, conn, "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'")
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func copyTables(ctx context.Context, conn *sql.Conn) error {
	var list []struct{ kind, name, sql string }
	rows, err := conn.QueryContext(ctx, "SELECT type, name, sql FROM old.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e struct{ kind, name, sql string }
		if err := rows.Scan(&e.kind, &e.name, &e.sql); err != nil {
			return err
		}
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, e := range list {
		if e.kind != "table" {
			continue
		}
		table := `"` + strings.ReplaceAll(e.name, `"`, `""`) + `"`
		for _, query := range []string{e.sql, "INSERT INTO main." + table + " SELECT * FROM old." + table} {
			if err := run(ctx, conn, query); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
		for _, query := range []string{"SELECT * FROM old.%[1]s EXCEPT SELECT * FROM main.%[1]s", "SELECT * FROM main.%[1]s EXCEPT SELECT * FROM old.%[1]s",
			"SELECT 1 WHERE (SELECT count(*) FROM main.%[1]s) <> (SELECT count(*) FROM old.%[1]s)"} {
			if err := wantNone(ctx, conn, fmt.Sprintf(query, table)); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	for _, e := range list { // triggers last: they would judge the rows again
		if e.kind != "table" {
			if err := run(ctx, conn, e.sql); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	for _, pragma := range []string{"user_version", "application_id"} {
		var n int
		if err := conn.QueryRowContext(ctx, "PRAGMA old."+pragma).Scan(&n); err != nil {
			return err
		}
		if err := run(ctx, conn, "PRAGMA main."+pragma+" = "+strconv.Itoa(n)); err != nil {
			return err
		}
	}
	return nil
}

// sealOrganisation seals the secrets that were in clear in their row.
func sealOrganisation(ctx context.Context, conn *sql.Conn, keys *seal.Keyring) error {
	return eachSecret(ctx, conn, func(place string, secret []byte) ([]byte, error) { return keys.Seal(place, secret) })
}

// eachSecret replaces every secret inside a row by what f makes of it. It knows all
// columns that hold one.
func eachSecret(ctx context.Context, conn *sql.Conn, f func(place string, value []byte) ([]byte, error)) error {
	var org wire.OrgID
	if err := conn.QueryRowContext(ctx, "SELECT org_id FROM organisation").Scan(&org); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	for _, column := range []string{"ca_key", "ticket_key"} {
		var value []byte
		if err := conn.QueryRowContext(ctx, "SELECT "+column+" FROM organisation WHERE org_id = ?", org).Scan(&value); err != nil {
			return err
		}
		value, err := f(orgSecret(org, column), value)
		if err != nil {
			return fmt.Errorf("%s: %w", column, err)
		}
		if err := run(ctx, conn, "UPDATE organisation SET "+column+" = ? WHERE org_id = ?", value, org); err != nil {
			return err
		}
	}
	return nil
}

// eachSealed does the same for what was never in clear: the keys of the audit trail and the
// secrets of enrolment keys that are still shown.
func eachSealed(ctx context.Context, conn *sql.Conn, f func(place string, value []byte) ([]byte, error)) error {
	type secret struct {
		place, query string
		args         []any
		value        []byte
	}
	var list []secret
	err := rows(ctx, conn, "SELECT org_id, secret FROM audit_log", nil, func(scan func(...any) error) error {
		var org wire.OrgID
		x := secret{query: "UPDATE audit_log SET secret = ? WHERE org_id = ?"}
		err := scan(&org, &x.value)
		x.place, x.args = auditSecret(org), []any{org}
		list = append(list, x)
		return err
	})
	if err != nil {
		return err
	}
	err = rows(ctx, conn, "SELECT org_id, key, secret FROM audit_subjects WHERE secret IS NOT NULL", nil, func(scan func(...any) error) error {
		var org wire.OrgID
		var key uint32
		x := secret{query: "UPDATE audit_subjects SET secret = ? WHERE org_id = ? AND key = ?"}
		err := scan(&org, &key, &x.value)
		x.place, x.args = subjectSecret(org, key), []any{org, key}
		list = append(list, x)
		return err
	})
	if err != nil {
		return err
	}
	err = rows(ctx, conn, "SELECT org_id, id, secret FROM enrolment_keys WHERE secret IS NOT NULL", nil, func(scan func(...any) error) error {
		var org wire.OrgID
		var id wire.KeyID
		x := secret{query: "UPDATE enrolment_keys SET secret = ? WHERE org_id = ? AND id = ?"}
		err := scan(&org, &id, &x.value)
		x.place, x.args = keySecret(org, id), []any{org, id}
		list = append(list, x)
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range list {
		value, err := f(x.place, x.value)
		if err != nil {
			return fmt.Errorf("%s: %w", x.place, err)
		}
		if err := run(ctx, conn, x.query, append([]any{value}, x.args...)...); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, conn *sql.Conn, query string, args ...any) error {
	_, err := conn.ExecContext(ctx, query, args...)
	return err
}

// wantNone fails when a query that looks for differences finds a row.
func wantNone(ctx context.Context, conn *sql.Conn, query string) error {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		return errors.New("the copy differs from the original")
	}
	return rows.Err()
}
