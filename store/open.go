package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"enclave/store/audit"
	"enclave/store/migrate"
	"enclave/store/seal"
	"enclave/wire"
)

// DatabaseName is the file in a state directory.
const DatabaseName = "enclave.db"

const (
	dbName   = DatabaseName
	lockName = "enclave.lock"

	// readers is how many connections read at once. WAL lets them go on while the
	// one writer works; more than a few only fight for the processor.
	readers = 4

	// applicationID marks the file as ours in its header: "ENCL". The first
	// migration sets it.
	applicationID = 0x454e434c

	// minSQLite is the first release without the WAL corruption that two
	// connections writing and checkpointing at once can cause.
	minSQLite = "3.51.3"
)

// pragmas are set on every connection and asserted on the writer's. temp_store
// keeps sorts in memory, because nothing may reach the disk beside the database;
// recursive_triggers lets REPLACE run into the triggers of the audit trail;
// secure_delete overwrites what is deleted, an erased key above all.
var pragmas = []struct{ name, value, want string }{
	{"busy_timeout", "5000", "5000"},
	{"journal_mode", "wal", "wal"},
	{"synchronous", "full", "2"},
	{"foreign_keys", "on", "1"},
	{"trusted_schema", "off", "0"},
	{"cell_size_check", "on", "1"},
	{"mmap_size", "0", "0"},
	{"temp_store", "memory", "2"},
	{"recursive_triggers", "on", "1"},
	{"secure_delete", "on", "1"},
}

// Store is an open store. Its methods may be called from many goroutines: changes
// take turns on one connection, reads run beside them on a consistent snapshot.
type Store struct {
	dir         string
	write, read *pool
	lock        *os.File
	keys        *seal.Keyring
	vfs         *seal.VFS // nil in measurements of what it costs
	sealed      Sealed
	org         atomic.Pointer[wire.OrgID] // nil until Init
	group       group
	news        news
	clock       *Clock                    // set when it opens
	onRecord    func(*audit.Record) error // nil, but in tests

	// heavy is held by what works on the whole file: a backup, a rotation. They take
	// turns, and who comes second is refused.
	heavy chan struct{}

	failed  chan struct{} // closed when the store cannot be trusted any more
	failure atomic.Pointer[error]

	closeOnce sync.Once
	closeErr  error
}

// Open opens the store in dir, and makes the directory and the file when there are
// none. A file that fails a check is not written to. Everything on disk is sealed
// (package seal); a file in clear, of a time before that, is sealed first.
func Open(ctx context.Context, dir string, opts ...Option) (*Store, error) {
	o := choose(opts)
	lock := o.held
	if lock == nil {
		var err error
		if lock, err = lockState(dir); err != nil {
			return nil, err
		}
	}
	if err := CheckRestored(dir); err != nil {
		if o.held == nil {
			lock.Close()
		}
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{lock: lock, dir: dir, heavy: make(chan struct{}, 1), failed: make(chan struct{}), onRecord: o.onRecord}
	if err := s.open(ctx, dir, o); err != nil {
		if o.held != nil {
			s.lock = nil // whoever held it still does
		}
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", filepath.Join(dir, dbName), translate(err))
	}
	return s, nil
}

// lockState makes and checks a state directory and takes its lock.
func lockState(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := acquire(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return lock, nil
}

func (s *Store) open(ctx context.Context, dir string, o options) (err error) {
	path := filepath.Join(dir, dbName)
	if err := s.unseal(ctx, dir, o); err != nil {
		return err
	}
	if err := inspect(ctx, s.vfs, path); err != nil {
		return err
	}
	if s.vfs != nil {
		s.vfs.Notify(s.fail)
	}
	if s.write, err = connectPool(s.vfs, path, 1, "_txlock=immediate"); err != nil {
		return err
	}
	if s.read, err = connectPool(s.vfs, path, readers, "_pragma=query_only(on)"); err != nil {
		return err
	}
	return s.prepare(ctx)
}

// prepare asserts the settings, brings the schema up and learns the organisation.
func (s *Store) prepare(ctx context.Context) error {
	for _, p := range pragmas {
		var got string
		if err := s.write.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(&got); err != nil {
			return err
		}
		if got != p.want {
			return fmt.Errorf("%s is %s, want %s", p.name, got, p.want)
		}
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	s.clock = newClock(time.Time{})
	var org wire.OrgID
	switch err := s.read.QueryRowContext(ctx, "SELECT org_id FROM organisation").Scan(&org); {
	case err == nil:
		s.org.Store(&org)
		return errors.Join(s.setClock(ctx), s.adopt(ctx, org))
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	return nil
}

// Close ends all work and gives the lock back. It waits for a backup or a rotation,
// whose contexts are the callers' to end. It may be called again.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.heavy <- struct{}{} // and never back: nothing begins any more
		// Readers first: the last connection to close writes the WAL back, and it
		// should be the one that may.
		s.closeErr = errors.Join(s.read.close(), s.write.close())
		if s.vfs != nil {
			s.vfs.Close()
		}
		if s.keys != nil {
			s.keys.Wipe()
		}
		if s.lock != nil {
			s.closeErr = errors.Join(s.closeErr, s.lock.Close())
		}
	})
	return s.closeErr
}

// CloseHolding is Close, but keeps other processes from the state until the result is
// closed or handed to Open with WithHeld.
func (s *Store) CloseHolding() (*Held, error) {
	h := &Held{}
	h.lock, s.lock = s.lock, nil
	return h, s.Close()
}

// Held is a state directory that is locked and not open.
type Held struct{ lock *os.File }

// Close gives it back. It may be called again.
func (h *Held) Close() error {
	if h.lock == nil {
		return nil
	}
	err := h.lock.Close()
	h.lock = nil
	return err
}

// fail notes why the store cannot be trusted any more.
func (s *Store) fail(err error) {
	if errors.Is(err, seal.ErrPage) {
		err = fmt.Errorf("%s: %w (%w)", s.path(), ErrDamaged, err)
	}
	if s.failure.CompareAndSwap(nil, &err) {
		close(s.failed)
	}
}

// Failed is closed when the store cannot be trusted any more: a page was not as it was
// written, or the disk did not keep what it had taken. Nothing is written from then on,
// and whoever runs the store should stop with Failure.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Failure says why; nil while all is well.
func (s *Store) Failure() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// inspect looks at an existing file before anything may write to it. It reads
// through a connection that cannot write, so that a damaged or newer file stays as
// it is, for whoever wants to rescue something from it.
func inspect(ctx context.Context, vfs *seal.VFS, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if unborn(path, info.Size()) {
		return nil
	}
	db, err := connect(vfs, path, 1, "mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return damaged(err)
	}
	if older(version, minSQLite) {
		return fmt.Errorf("SQLite is %s, need %s", version, minSQLite)
	}
	if info.Size() == 0 {
		return nil // a first start
	}
	var schema, app int
	if err := db.QueryRowContext(ctx, "SELECT user_version, application_id FROM pragma_user_version, pragma_application_id").Scan(&schema, &app); err != nil {
		return damaged(err)
	}
	if app != 0 && app != applicationID {
		return fmt.Errorf("%w: it is a database of another program", ErrDamaged)
	}
	if latest := migrate.Latest(); schema > latest {
		return fmt.Errorf("%w: its schema is version %d, this program knows %d; upgrade the program", ErrNewer, schema, latest)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return damaged(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, strings.Join(strings.Fields(verdict), " "))
	}
	return nil
}

// unborn reports whether the start that made the database was killed before its log was
// there. Only that is done with a rollback journal, which who cannot write cannot play
// back; the writer does, and finds nothing.
func unborn(path string, size int64) bool {
	journal, err := os.Stat(path + "-journal")
	return err == nil && journal.Size() > 0 && size <= seal.PageSize
}

func damaged(err error) error {
	if e := translate(err); !errors.Is(e, ErrConflict) {
		return e
	}
	return err
}

// connect opens the database, through the file layer if one is given.
func connect(vfs *seal.VFS, path string, connections int, extra ...string) (*sql.DB, error) {
	c, err := connector(vfs, path, extra...)
	if err != nil {
		return nil, err
	}
	return poolOf(c, connections), nil
}

// connectPool is connect for connections whose file layer can change.
func connectPool(vfs *seal.VFS, path string, connections int, extra ...string) (*pool, error) {
	d, err := newDoor(vfs, func(vfs *seal.VFS) (driver.Connector, error) { return connector(vfs, path, extra...) })
	if err != nil {
		return nil, err
	}
	return &pool{poolOf(d, connections), d, connections}, nil
}

func poolOf(c driver.Connector, connections int) *sql.DB {
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// connector is the only place that names the database to SQLite.
func connector(vfs *seal.VFS, path string, extra ...string) (driver.Connector, error) {
	abs, err := absolute(path)
	if err != nil {
		return nil, err
	}
	params := []string{"_defensive=1", "_dqs=0", "_error_rc=1"}
	for _, p := range pragmas {
		if p.name == "journal_mode" && len(extra) > 0 && extra[0] == "mode=ro" {
			continue // would be a write
		}
		params = append(params, "_pragma="+p.name+"("+p.value+")")
	}
	u := url.URL{Scheme: "file", Path: abs}
	open := sqlite.NewConnector
	if vfs != nil {
		params, open = append(params, "vfs="+vfs.Name()), vfs.Connector
	}
	u.RawQuery = strings.Join(append(params, extra...), "&")
	return open(u.String())
}

// absolute is path as a file: URL has it.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if abs = filepath.ToSlash(abs); !strings.HasPrefix(abs, "/") {
		abs = "/" + abs // C:/dir
	}
	return abs, err
}

// older compares dotted version numbers.
func older(a, b string) bool {
	var x, y [3]int
	fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2])
	fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}
