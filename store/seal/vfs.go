package seal

import (
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// VFS is a file layer below SQLite that enciphers every byte of the files that
// SQLite makes. It wraps the system's own layer, whose locks, syncs and names it
// uses; what a connection string names as vfs is Name.
type VFS struct {
	name   string
	root   *Root
	orig   uintptr // the system's layer
	self   uintptr // ours, as SQLite sees it
	openFn openFunc
	orgFn  openFunc

	mu    sync.Mutex         // guards what follows
	files map[uintptr]*file  // open files by their address: keeps their methods alive
	index map[string]*shared // WAL indexes by database name
	pages map[uint32]bool    // written to a log since Watch; nil while nobody watches

	failure
}

type openFunc = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32

// NewVFS registers a layer for files sealed under root, of which it keeps a copy.
func NewVFS(root *Root) (*VFS, error) {
	v := &VFS{name: "enclave-seal-" + rand.Text(), root: root.clone(),
		files: make(map[uintptr]*file), index: make(map[string]*shared)}
	tls := libc.NewTLS()
	defer tls.Close()
	if v.orig = sqlite3.Xsqlite3_vfs_find(tls, 0); v.orig == 0 {
		return nil, errors.New("seal: SQLite has no file layer")
	}
	// The name stands behind the structure, in one piece of memory.
	const size = int(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{}))
	if v.self = alloc(tls, size+len(v.name)+1); v.self == 0 {
		return nil, errors.New("seal: out of memory")
	}
	copy(bytesAt(v.self+uintptr(size), len(v.name)), v.name)
	t := at[sqlite3.Tsqlite3_vfs](v.self)
	*t = *at[sqlite3.Tsqlite3_vfs](v.orig)
	v.orgFn, v.openFn = function[openFunc](t.FxOpen), v.open
	t.FpNext, t.FzName, t.FxOpen = 0, v.self+uintptr(size), pointer(v.openFn)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, v.self, 0); rc != sqlite3.SQLITE_OK {
		free(tls, v.self)
		return nil, fmt.Errorf("seal: register file layer: code %d", rc)
	}
	return v, nil
}

// System is the name of the system's own layer, for connection strings that would
// otherwise inherit ours.
func System() string {
	tls := libc.NewTLS()
	defer tls.Close()
	p := sqlite3.Xsqlite3_vfs_find(tls, 0)
	if p == 0 {
		return ""
	}
	return libc.GoString(at[sqlite3.Tsqlite3_vfs](p).FzName)
}

// Name is what a connection string names as vfs.
func (v *VFS) Name() string { return v.name }

// Connector returns a connector that keeps the layer alive for as long as it is in
// use. The connection string must name the layer.
func (v *VFS) Connector(dsn string) (driver.Connector, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return connector{c, v}, nil
}

type connector struct {
	driver.Connector
	_ *VFS
}

// Close takes the layer out of SQLite, for connections to come, and may be called
// again. Connections that are still open go on; then the few bytes that SQLite knows
// the layer by are never given back, because SQLite may look at them to the last.
func (v *VFS) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.self == 0 {
		return
	}
	tls := libc.NewTLS()
	defer tls.Close()
	sqlite3.Xsqlite3_vfs_unregister(tls, v.self)
	if len(v.files) == 0 {
		free(tls, v.self)
		v.root.Wipe()
	}
	v.self = 0
}

// open is xOpen. SQLite says what the file is; one that it does not say is ours
// alone and gets a key of its own.
func (v *VFS) open(tls *libc.TLS, _, name, pFile uintptr, flags int32, out uintptr) int32 {
	r := scratch
	switch {
	case flags&sqlite3.SQLITE_OPEN_MAIN_DB != 0:
		r = database
	case flags&sqlite3.SQLITE_OPEN_WAL != 0:
		r = wal
	case flags&sqlite3.SQLITE_OPEN_MAIN_JOURNAL != 0:
		r = journal
	case flags&sqlite3.SQLITE_OPEN_SUPER_JOURNAL != 0:
		// It names the journals of a transaction over several databases. There is
		// one database, and nothing would encipher the names for the next process.
		return sqlite3.SQLITE_CANTOPEN
	}
	rc := v.orgFn(tls, v.orig, name, pFile, flags, out)
	methods := at[sqlite3.Tsqlite3_file](pFile).FpMethods
	if methods == 0 {
		return rc
	}
	f := newFile(tls, v, r, at[sqlite3.Tsqlite3_io_methods](methods))
	if f == nil {
		function[oneArg](at[sqlite3.Tsqlite3_io_methods](methods).FxClose)(tls, pFile)
		at[sqlite3.Tsqlite3_file](pFile).FpMethods = 0
		return sqlite3.SQLITE_NOMEM
	}
	if r == database && name != 0 {
		f.name = libc.GoString(name)
	}
	at[sqlite3.Tsqlite3_file](pFile).FpMethods = f.table
	v.mu.Lock()
	v.files[pFile] = f
	v.mu.Unlock()
	return rc
}

// closed forgets a file.
func (v *VFS) closed(pFile uintptr) {
	v.mu.Lock()
	delete(v.files, pFile)
	v.mu.Unlock()
}
