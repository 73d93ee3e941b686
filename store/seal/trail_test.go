package seal

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
)

// trail is an audit trail as package store keeps one: records and the hashes of the tree,
// in the transaction of the change. Store itself cannot be used here; it imports this
// package.
type trail struct {
	tree audit.Tree
	prev audit.Hash
}

func crashRecord(seq int64, prev audit.Hash) audit.Record {
	return audit.Record{Format: audit.Current, Seq: seq, At: time.Unix(seq, 0), Actor: "control", Action: "change.make", Object: "change", Outcome: audit.Done, Prev: prev}
}

func (l *trail) append(tx *sql.Tx, seq int64) error {
	r := crashRecord(seq, l.prev)
	hash, _ := r.Sum("org", nil)
	if _, err := tx.Exec("INSERT INTO record VALUES (?, ?, ?)", seq, l.prev[:], hash[:]); err != nil {
		return err
	}
	leaf := audit.Leaf(hash)
	place := tlog.StoredHashIndex(0, seq-1)
	for i, h := range append([]tlog.Hash{leaf}, l.tree.AppendLeaf(leaf)...) {
		if _, err := tx.Exec("INSERT INTO node VALUES (?, ?)", place+int64(i), h[:]); err != nil {
			return err
		}
	}
	l.prev = hash
	return nil
}

// checkTrail verifies that the database has exactly n records, their chain and their tree.
func checkTrail(db *sql.DB, n int64) error {
	rows, err := db.Query("SELECT seq, prev, hash FROM record ORDER BY seq")
	if err != nil {
		return err
	}
	defer rows.Close()
	var tree audit.Tree
	var prev audit.Hash
	for rows.Next() {
		var seq int64
		var was, is []byte
		if err := rows.Scan(&seq, &was, &is); err != nil {
			return err
		}
		r := crashRecord(seq, prev)
		hash, _ := r.Sum("org", nil)
		if seq != tree.Size()+1 || string(was) != string(prev[:]) || string(is) != string(hash[:]) {
			return fmt.Errorf("record %d does not follow", seq)
		}
		tree.Append(hash)
		prev = hash
	}
	if err := rows.Err(); err != nil || tree.Size() != n {
		return fmt.Errorf("%d records of %d changes, %w", tree.Size(), n, err)
	}
	var nodes int64
	if err := db.QueryRow("SELECT count(*) FROM node").Scan(&nodes); err != nil {
		return err
	}
	if want := tlog.StoredHashCount(n); nodes != want {
		return fmt.Errorf("%d hashes of the tree, want %d", nodes, want)
	}
	root, err := tlog.TreeHash(n, tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(places))
		for i, p := range places {
			var h []byte
			if err := db.QueryRow("SELECT hash FROM node WHERE place = ?", p).Scan(&h); err != nil || len(h) != sha256.Size {
				return nil, fmt.Errorf("hash %d: %d bytes, %w", p, len(h), err)
			}
			copy(out[i][:], h)
		}
		return out, nil
	}))
	if n > 0 && (err != nil || root != tree.Root()) {
		return fmt.Errorf("the root of the tree is not that of the records, %w", err)
	}
	return nil
}
