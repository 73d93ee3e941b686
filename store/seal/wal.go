package seal

import (
	"encoding/binary"

	sqlite3 "modernc.org/sqlite/lib"
)

// walCodec spreads the WAL over whole sectors, so that no sector holds parts of two
// frames. SQLite packs them; a frame whose first bytes share a 16-byte cipher block
// with the last bytes of the one before would spoil that one, committed as it may
// be, when power goes while it is written.
//
//	what          SQLite's offset    on disk
//	WAL header    0, 32 bytes        sector 0
//	frame i       32 + i*4120        512 + i*4608
//	  header        + 0, 24 bytes      + 0, one sector
//	  page          + 24               + 512
//
// The page's free bytes, which are zero above, hold its MAC, bound to the number of
// the frame.
type walCodec struct{}

const (
	walHeader   = 32
	frameHeader = 24
	frameSize   = frameHeader + pageSize
	frameOnDisk = sectorSize + pageSize
)

func (walCodec) physical(size int64) int64 {
	if size <= 0 {
		return 0
	}
	frames := (size - walHeader + frameSize - 1) / frameSize // rounded up
	return sectorSize + max(0, frames)*frameOnDisk
}

func (walCodec) logical(size int64) int64 {
	if size < sectorSize {
		return 0
	}
	size -= sectorSize
	part := size % frameOnDisk
	if part >= sectorSize {
		part -= sectorSize - frameHeader
	} else {
		part = 0
	}
	return walHeader + size/frameOnDisk*frameSize + part
}

// piece finds the piece that holds an offset: its sector-aligned place on disk, the
// offset in the piece, the size of the piece, and the frame's number for a page.
func piece(off int64) (disk, in, size, frame int64) {
	if off < walHeader {
		return 0, off, walHeader, -1
	}
	frame = (off - walHeader) / frameSize
	disk, in = sectorSize+frame*frameOnDisk, (off-walHeader)%frameSize
	if in < frameHeader {
		return disk, in, frameHeader, -1
	}
	return disk + sectorSize, in - frameHeader, pageSize, frame
}

// read serves a page only with the right MAC. A read that spans a frame's header
// and page is SQLite's recovery, which looks for the end of the log by the checksum
// in the header; a frame that was torn is not an error there, and with a wrong MAC
// the checksum is wrong too, because it covers the bytes where the MAC then stays.
func (walCodec) read(c call, out []byte, buf uintptr, off int64) int32 {
	recovery := len(out) > pageSize
	for result := int32(sqlite3.SQLITE_OK); ; {
		disk, in, size, frame := piece(off)
		n := min(len(out), int(size-in))
		var rc int32
		switch {
		case frame < 0:
			rc = c.load(c.work, sectorSize, disk)
			copy(out[:n], c.room(sectorSize)[in:])
		case n == pageSize:
			rc = c.load(buf, pageSize, disk)
			rc = c.check(out[:n], frame, rc, recovery)
		default:
			rc = c.load(c.work, pageSize, disk)
			rc = c.check(c.room(pageSize), frame, rc, recovery)
			copy(out[:n], c.room(pageSize)[in:])
		}
		if rc == sqlite3.SQLITE_IOERR_SHORT_READ {
			result = rc
		} else if rc != sqlite3.SQLITE_OK {
			return rc
		}
		if out = out[n:]; len(out) == 0 {
			return result
		}
		off, buf = off+int64(n), buf+uintptr(n)
	}
}

// check opens a page of a frame that load read with result rc.
func (c call) check(page []byte, frame int64, rc int32, recovery bool) int32 {
	if rc != sqlite3.SQLITE_OK || c.mac.open(page, frame) || recovery {
		return rc
	}
	clear(page)
	c.vfs.fail(ErrPage)
	return sqlite3.SQLITE_IOERR_DATA
}

// write takes the pieces as SQLite writes them, each on its own and whole.
func (walCodec) write(c call, in []byte, off int64) int32 {
	disk, at, size, frame := piece(off)
	if at != 0 || int64(len(in)) != size {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	room := c.room(sectorSize)
	if frame >= 0 {
		room = c.room(pageSize)
	} else if size == frameHeader {
		c.vfs.wrote(binary.BigEndian.Uint32(in))
	}
	clear(room[copy(room, in):])
	if frame >= 0 {
		// The frame's checksum covers these bytes as SQLite has them; they come back
		// as zeroes.
		for _, b := range room[pageSize-macSize:] {
			if b != 0 {
				return sqlite3.SQLITE_IOERR_WRITE
			}
		}
		c.mac.seal(room, frame)
	}
	return c.store(len(room), disk)
}
