package store

import (
	"context"
	"encoding/json"

	"enclave/wire"
)

// Requirements, zones and records are kept whole: a row is the organisation, the key, the
// document as JSON, and its version.

// readDocuments reads such a table by its keys. Of a document that cannot be read, by a
// program of another version than wrote it, the key and the version count; broken says
// why, and doc is empty.
func readDocuments[T any](ctx context.Context, r reader, org wire.OrgID, table, key string,
	each func(key string, doc T, version wire.Revision, broken string)) error {
	return rows(ctx, r, "SELECT "+key+", document, version FROM "+table+" WHERE org_id = ? ORDER BY "+key, []any{org}, func(scan func(...any) error) error {
		var doc T
		var id, text, broken string
		var version wire.Revision
		if err := scan(&id, &text, &version); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			var none T
			doc, broken = none, err.Error()
		}
		each(id, doc, version, broken)
		return nil
	})
}

// putDocument keeps a document as the newest version of its key.
func (w *writing) putDocument(ctx context.Context, table, key string, doc any) error {
	text, err := toJSON(doc)
	if err != nil {
		return err
	}
	_, err = w.ExecContext(ctx, "INSERT INTO "+table+` VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET document = excluded.document, version = excluded.version`, w.org, key, text, w.rev)
	return err
}
