package seal

import sqlite3 "modernc.org/sqlite/lib"

// streamCodec keeps bytes where SQLite puts them and takes writes of any size: the
// sectors at both ends are read, changed and written whole. The last sector is
// filled up with zeroes, so the file looks up to 511 bytes longer than it is; the
// formats of journals and sorters do not mind. It is for files that exist while a
// database is made and in no other moment of a store's life.
type streamCodec struct{}

func (streamCodec) physical(size int64) int64 {
	return (size + sectorSize - 1) / sectorSize * sectorSize
}

func (streamCodec) logical(size int64) int64 { return size }

// span is the range of whole sectors around n bytes at off, cut to the work space.
// used is how many of the n bytes are in it.
func span(off int64, n int) (first int64, size, used int) {
	first = off / sectorSize * sectorSize
	skip := int(off - first)
	used = min(n, workSize-skip)
	return first, (skip + used + sectorSize - 1) / sectorSize * sectorSize, used
}

func (streamCodec) read(c call, out []byte, _ uintptr, off int64) int32 {
	result := int32(sqlite3.SQLITE_OK)
	for len(out) > 0 {
		first, size, n := span(off, len(out))
		rc := c.load(c.work, size, first)
		if rc == sqlite3.SQLITE_IOERR_SHORT_READ {
			result = rc
		} else if rc != sqlite3.SQLITE_OK {
			return rc
		}
		copy(out[:n], c.room(size)[off-first:])
		out, off = out[n:], off+int64(n)
	}
	return result
}

func (streamCodec) write(c call, in []byte, off int64) int32 {
	for len(in) > 0 {
		first, size, n := span(off, len(in))
		if int64(size) != int64(n) {
			rc := c.load(c.work, size, first)
			if rc != sqlite3.SQLITE_OK && rc != sqlite3.SQLITE_IOERR_SHORT_READ {
				return rc
			}
		}
		copy(c.room(size)[off-first:], in[:n])
		if rc := c.store(size, first); rc != sqlite3.SQLITE_OK {
			return rc
		}
		in, off = in[n:], off+int64(n)
	}
	return sqlite3.SQLITE_OK
}
