package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrBusy is returned while another backup or rotation works on the whole file.
var ErrBusy = errors.New("a backup or a rotation is under way; try again when it has ended")

// Progress is told how far a long work on the whole file has come, in pages.
type Progress func(done, total int64)

// enterHeavy takes the turn of work on the whole file.
func (s *Store) enterHeavy() (leave func(), err error) {
	select {
	case s.heavy <- struct{}{}:
		return func() { <-s.heavy }, nil
	default:
		return nil, ErrBusy
	}
}

// pagesAt is a read transaction on a connection of its own: the pages of the database
// as they were at one instant, while changes go on. For as long as it is open the log
// grows.
type pagesAt struct {
	db    *sql.DB
	tx    *sql.Tx
	Pages int64
}

// pagesNow begins one.
func (s *Store) pagesNow(ctx context.Context) (*pagesAt, error) {
	db, err := connect(s.vfs, s.path(), 1, "mode=ro")
	if err != nil {
		return nil, err
	}
	p := &pagesAt{db: db}
	if p.tx, err = db.BeginTx(ctx, nil); err == nil {
		// The first question is what makes the snapshot.
		err = p.tx.QueryRowContext(ctx, "SELECT page_count FROM pragma_page_count, (SELECT count(*) FROM sqlite_schema)").Scan(&p.Pages)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// each hands out every page in order. The page is valid during the call.
func (p *pagesAt) each(ctx context.Context, f func(page []byte, index int64) error) error {
	rows, err := p.tx.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno")
	if err != nil {
		return err
	}
	defer rows.Close()
	n := int64(0)
	for rows.Next() {
		var number int64
		var page sql.RawBytes
		if err := rows.Scan(&number, &page); err != nil {
			return err
		}
		if n++; number != n {
			return fmt.Errorf("page %d where %d should be", number, n)
		}
		if err := f(page, number-1); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != p.Pages {
		return fmt.Errorf("%d pages of %d", n, p.Pages)
	}
	return nil
}

// some hands out the pages of a set; those that the database does not have any more
// are left out.
func some(ctx context.Context, r reader, set map[uint32]bool, f func(page []byte, index int64) error) error {
	for number := range set {
		var page []byte
		err := r.QueryRowContext(ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = ?", number).Scan(&page)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err == nil {
			err = f(page, int64(number)-1)
		}
		if err != nil {
			return fmt.Errorf("page %d: %w", number, err)
		}
	}
	return nil
}

func (p *pagesAt) close() error {
	if p.tx != nil {
		p.tx.Rollback()
	}
	return p.db.Close()
}
