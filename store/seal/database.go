package seal

import sqlite3 "modernc.org/sqlite/lib"

// databaseCodec keeps pages where SQLite puts them. Each carries its MAC in the
// bytes that SQLite leaves free, bound to the page's number.
type databaseCodec struct{}

func (databaseCodec) physical(size int64) int64 { return size }
func (databaseCodec) logical(size int64) int64  { return size }

// headerSize is the part of page 1 that describes the database.
const headerSize = 100

// emptyHeader is what SQLite reads as the header of a file that is still empty. It
// takes page size and free bytes from there for the database that it then makes.
var emptyHeader = [headerSize]byte{16: pageSize >> 8, 20: macSize}

func (databaseCodec) read(c call, out []byte, buf uintptr, off int64) int32 {
	if len(out) == pageSize && off%pageSize == 0 {
		rc := c.load(buf, pageSize, off)
		switch {
		case rc == sqlite3.SQLITE_OK && !c.mac.open(out, off/pageSize):
			clear(out)
			c.vfs.fail(ErrPage)
			return sqlite3.SQLITE_IOERR_DATA
		case rc == sqlite3.SQLITE_IOERR_SHORT_READ:
			// Past the end a page is zero. A piece of a page is no page.
			if size, bad := c.size(); bad != sqlite3.SQLITE_OK || size > off {
				clear(out)
				return sqlite3.SQLITE_IOERR_DATA
			}
		}
		return rc
	}
	// SQLite looks at the header before it reads the WAL. The page may be torn then,
	// with a whole copy in the WAL, so its MAC cannot decide here. SQLite reads the
	// page again, as a page, before it believes any of it.
	if off+int64(len(out)) > sectorSize {
		return sqlite3.SQLITE_IOERR_READ
	}
	switch size, rc := c.size(); {
	case rc != sqlite3.SQLITE_OK:
		return rc
	case size == 0:
		if clear(out); off < headerSize {
			copy(out, emptyHeader[off:])
		}
		if off+int64(len(out)) > headerSize {
			return sqlite3.SQLITE_IOERR_SHORT_READ
		}
		return sqlite3.SQLITE_OK
	}
	rc := c.load(c.work, sectorSize, 0)
	// What describes the pages is the same in every sealed file.
	head := c.room(sectorSize)
	head[16], head[17], head[20] = emptyHeader[16], emptyHeader[17], emptyHeader[20]
	copy(out, head[off:])
	return rc
}

func (databaseCodec) write(c call, in []byte, off int64) int32 {
	if len(in) != pageSize || off%pageSize != 0 {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	// A hole would read as pages with a wrong MAC, so it is filled.
	size, rc := c.size()
	for at := (size + pageSize - 1) / pageSize * pageSize; rc == sqlite3.SQLITE_OK && at < off; at += pageSize {
		clear(c.room(pageSize))
		rc = c.storePage(at)
	}
	if rc != sqlite3.SQLITE_OK {
		return rc
	}
	copy(c.room(pageSize), in)
	return c.storePage(off)
}

// storePage seals the page in the work space and writes it.
func (c call) storePage(off int64) int32 {
	c.mac.seal(c.room(pageSize), off/pageSize)
	return c.store(pageSize, off)
}
