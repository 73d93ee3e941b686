package seal

import (
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The signatures of the methods that are replaced.
type (
	oneArg  = func(tls *libc.TLS, pFile uintptr) int32
	ioArg   = func(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32
	sizeArg = func(tls *libc.TLS, pFile uintptr, size int64) int32
	outArg  = func(tls *libc.TLS, pFile, out uintptr) int32
	ctlArg  = func(tls *libc.TLS, pFile uintptr, op int32, arg uintptr) int32
	mapArg  = func(tls *libc.TLS, pFile uintptr, region, size, extend int32, out uintptr) int32
	lockArg = func(tls *libc.TLS, pFile uintptr, first, n, flags int32) int32
	noArg   = func(tls *libc.TLS, pFile uintptr)
	delArg  = func(tls *libc.TLS, pFile uintptr, del int32) int32
	syncArg = func(tls *libc.TLS, pFile uintptr, flags int32) int32
)

// codec is how the bytes that SQLite sees lie in a file of one role. Offsets and
// sizes of its methods are SQLite's.
type codec interface {
	read(c call, out []byte, buf uintptr, off int64) int32
	write(c call, in []byte, off int64) int32
	// physical returns the size of the file that holds size bytes, logical the
	// other way round.
	physical(size int64) int64
	logical(size int64) int64
}

// file is one open file. SQLite uses a handle from one thread at a time, so nothing
// here is locked but what handles share (shared).
type file struct {
	vfs  *VFS
	name string // of a database
	codec
	x   *sectors
	mac *pageMAC

	table uintptr // the methods that SQLite sees
	work  uintptr // room for workSize bytes on their way to the disk, and a size
	shm   *shared // the WAL index, once mapped
	held  locks   // on it

	// The methods of the system's layer.
	sysClose, sysDevice oneArg
	sysRead, sysWrite   ioArg
	sysTruncate         sizeArg
	sysSize             outArg
	sysControl          ctlArg
	sysSync             syncArg

	keep []any // the closures that the table points to
}

// workSize is a page and its header sector, or as many sectors.
const workSize = pageSize + sectorSize

// newFile wraps a file that the system's layer has opened; nil when memory is short.
func newFile(tls *libc.TLS, v *VFS, r role, sys *sqlite3.Tsqlite3_io_methods) *file {
	f := &file{vfs: v, x: newSectors(v.root, r),
		sysClose: function[oneArg](sys.FxClose), sysDevice: function[oneArg](sys.FxDeviceCharacteristics),
		sysRead: function[ioArg](sys.FxRead), sysWrite: function[ioArg](sys.FxWrite),
		sysTruncate: function[sizeArg](sys.FxTruncate), sysSize: function[outArg](sys.FxFileSize),
		sysControl: function[ctlArg](sys.FxFileControl), sysSync: function[syncArg](sys.FxSync)}
	switch r {
	case database:
		f.codec, f.mac = databaseCodec{}, newPageMAC(v.root, r)
	case wal:
		f.codec, f.mac = walCodec{}, newPageMAC(v.root, r)
	default:
		f.codec = streamCodec{}
	}
	if f.table = alloc(tls, int(unsafe.Sizeof(*sys))); f.table == 0 {
		return nil
	}
	if f.work = alloc(tls, workSize+8); f.work == 0 {
		free(tls, f.table)
		return nil
	}
	t := at[sqlite3.Tsqlite3_io_methods](f.table)
	*t = *sys
	// Version 2 has a WAL index and no memory map of the file, which would show
	// SQLite the sealed bytes.
	t.FiVersion = 2
	t.FxFetch, t.FxUnfetch = 0, 0
	t.FxClose = method[oneArg](f, f.close)
	t.FxRead = method[ioArg](f, f.readAt)
	t.FxWrite = method[ioArg](f, f.writeAt)
	t.FxTruncate = method[sizeArg](f, f.truncate)
	t.FxSync = method[syncArg](f, f.sync)
	t.FxFileSize = method[outArg](f, f.size)
	t.FxFileControl = method[ctlArg](f, f.control)
	t.FxDeviceCharacteristics = method[oneArg](f, f.device)
	t.FxShmMap = method[mapArg](f, f.shmMap)
	t.FxShmLock = method[lockArg](f, f.shmLock)
	t.FxShmBarrier = method[noArg](f, f.shmBarrier)
	t.FxShmUnmap = method[delArg](f, f.shmUnmap)
	return f
}

// method keeps fn alive with f and returns its pointer.
func method[F any](f *file, fn F) uintptr {
	f.keep = append(f.keep, fn)
	return pointer(fn)
}

func (f *file) close(tls *libc.TLS, pFile uintptr) int32 {
	f.shmUnmap(tls, pFile, 0)
	rc := f.sysClose(tls, pFile)
	clear(bytesAt(f.work, workSize))
	f.x.wipe()
	if f.mac != nil {
		f.mac.wipe()
	}
	free(tls, f.work)
	free(tls, f.table)
	f.vfs.closed(pFile)
	return rc
}

func (f *file) readAt(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32 {
	return f.read(call{f, tls, pFile}, bytesAt(buf, int(n)), buf, off)
}

func (f *file) writeAt(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32 {
	if f.vfs.broken() {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return f.write(call{f, tls, pFile}, bytesAt(buf, int(n)), off)
}

// sync is final when it fails: the system may have dropped what it could not write, and
// would say that all is well the next time it is asked.
func (f *file) sync(tls *libc.TLS, pFile uintptr, flags int32) int32 {
	if f.vfs.broken() {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	rc := f.vfs.fault(AtSync)
	if rc == sqlite3.SQLITE_OK {
		rc = f.sysSync(tls, pFile, flags)
	}
	if rc != sqlite3.SQLITE_OK {
		f.vfs.fail(ErrSync)
	}
	return rc
}

func (f *file) truncate(tls *libc.TLS, pFile uintptr, size int64) int32 {
	return f.sysTruncate(tls, pFile, f.physical(size))
}

func (f *file) size(tls *libc.TLS, pFile, out uintptr) int32 {
	rc := f.sysSize(tls, pFile, out)
	if rc == sqlite3.SQLITE_OK {
		*at[int64](out) = f.logical(*at[int64](out))
	}
	return rc
}

// control keeps from the system's layer what would let it map or grow the file
// behind our back.
func (f *file) control(tls *libc.TLS, pFile uintptr, op int32, arg uintptr) int32 {
	switch op {
	case sqlite3.SQLITE_FCNTL_MMAP_SIZE:
		*at[int64](arg) = 0
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_FCNTL_SIZE_HINT, sqlite3.SQLITE_FCNTL_CHUNK_SIZE:
		return sqlite3.SQLITE_OK
	}
	return f.sysControl(tls, pFile, op, arg)
}

// device promises what holds for sectors of ours. A write touches no sector that
// another write needs whole (the WAL's frames share none), which is what
// POWERSAFE_OVERWRITE is about. Reads of parts of a page are not welcome: there is
// one MAC for all of it.
func (f *file) device(tls *libc.TLS, pFile uintptr) int32 {
	return f.sysDevice(tls, pFile)&sqlite3.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN | sqlite3.SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

// call is one call from SQLite: the file and what the system's layer wants to know.
type call struct {
	*file
	tls   *libc.TLS
	pFile uintptr
}

// room returns the first n bytes of the work space.
func (c call) room(n int) []byte { return bytesAt(c.work, n) }

// size returns the size of the file on disk.
func (c call) size() (int64, int32) {
	out := c.work + workSize
	rc := c.sysSize(c.tls, c.pFile, out)
	return *at[int64](out), rc
}

// load reads n bytes of whole sectors at off into buf, which is outside Go's heap,
// and deciphers them. What the file does not have is zero and makes the result
// SQLITE_IOERR_SHORT_READ.
func (c call) load(buf uintptr, n int, off int64) int32 {
	have := int64(n)
	rc := c.sysRead(c.tls, c.pFile, buf, int32(n), off)
	if rc == sqlite3.SQLITE_IOERR_SHORT_READ {
		size, bad := c.size()
		if bad != sqlite3.SQLITE_OK {
			return bad
		}
		have = max(0, min(have, size-off)) / sectorSize * sectorSize
	} else if rc != sqlite3.SQLITE_OK {
		return rc
	}
	b := bytesAt(buf, n)
	clear(b[have:])
	c.x.decrypt(b[:have], off/sectorSize)
	return rc
}

// store enciphers the first n bytes of the work space and writes them at off.
func (c call) store(n int, off int64) int32 {
	if rc := c.vfs.fault(AtWrite); rc != sqlite3.SQLITE_OK {
		return rc
	}
	c.x.encrypt(c.room(n), off/sectorSize)
	return c.sysWrite(c.tls, c.pFile, c.work, int32(n), off)
}
