package seal

import (
	"sync"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// shared is the WAL's index of one database, which SQLite's own layer would keep in
// a file (-shm) that all processes map. One process has a store open, so here it is
// memory that the handles of this process share, and nothing of it reaches the disk.
// As with the file, it is gone with the last handle; the next first one finds it
// empty and rebuilds it from the WAL.
type shared struct {
	mu      sync.Mutex
	handles int
	regions []uintptr
	readers [sqlite3.SQLITE_SHM_NLOCK]int
	writer  [sqlite3.SQLITE_SHM_NLOCK]*file
}

// locks are those that one handle holds, a bit each.
type locks struct{ read, write uint8 }

func (f *file) shmMap(tls *libc.TLS, _ uintptr, region, size, extend int32, out uintptr) int32 {
	if f.shm == nil {
		f.shm = f.vfs.join(f.name)
	}
	s := f.shm
	s.mu.Lock()
	defer s.mu.Unlock()
	*at[uintptr](out) = 0
	for int(region) >= len(s.regions) {
		if extend == 0 {
			return sqlite3.SQLITE_OK
		}
		p := alloc(tls, int(size))
		if p == 0 {
			return sqlite3.SQLITE_NOMEM
		}
		s.regions = append(s.regions, p)
	}
	*at[uintptr](out) = s.regions[region]
	return sqlite3.SQLITE_OK
}

// shmLock takes or gives back n locks, all or none; it never waits.
func (f *file) shmLock(_ *libc.TLS, _ uintptr, first, n, flags int32) int32 {
	s := f.shm
	if s == nil {
		return sqlite3.SQLITE_IOERR_SHMLOCK
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mask := uint8(1<<(first+n) - 1<<first)
	if flags&sqlite3.SQLITE_SHM_UNLOCK != 0 {
		s.unlock(f, mask)
		return sqlite3.SQLITE_OK
	}
	for i := first; i < first+n; i++ {
		others := s.readers[i] - int(f.held.read>>i&1)
		if w := s.writer[i]; w != nil && w != f || flags&sqlite3.SQLITE_SHM_EXCLUSIVE != 0 && others > 0 {
			return sqlite3.SQLITE_BUSY
		}
	}
	for i := first; i < first+n; i++ {
		switch {
		case flags&sqlite3.SQLITE_SHM_EXCLUSIVE != 0:
			s.writer[i] = f
			f.held.write |= 1 << i
		case f.held.read>>i&1 == 0:
			s.readers[i]++
			f.held.read |= 1 << i
		}
	}
	return sqlite3.SQLITE_OK
}

// unlock gives back what f holds of mask.
func (s *shared) unlock(f *file, mask uint8) {
	for i := range s.readers {
		if bit := uint8(1) << i & mask; bit&f.held.read != 0 {
			s.readers[i]--
		} else if bit&f.held.write != 0 {
			s.writer[i] = nil
		}
	}
	f.held.read &^= mask
	f.held.write &^= mask
}

// shmBarrier orders memory between threads; a lock does.
func (f *file) shmBarrier(*libc.TLS, uintptr) {
	if f.shm != nil {
		f.shm.mu.Lock()
		defer f.shm.mu.Unlock()
	}
}

func (f *file) shmUnmap(tls *libc.TLS, _ uintptr, _ int32) int32 {
	s := f.shm
	if s == nil {
		return sqlite3.SQLITE_OK
	}
	s.mu.Lock()
	s.unlock(f, ^uint8(0))
	s.mu.Unlock()
	f.shm = nil
	f.vfs.leave(tls, f.name, s)
	return sqlite3.SQLITE_OK
}

// join returns the index of a database, for one more handle.
func (v *VFS) join(name string) *shared {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.index[name]
	if s == nil {
		s = new(shared)
		v.index[name] = s
	}
	s.handles++
	return s
}

// leave frees the index with its last handle.
func (v *VFS) leave(tls *libc.TLS, name string, s *shared) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.handles--; s.handles > 0 {
		return
	}
	for _, p := range s.regions {
		free(tls, p)
	}
	delete(v.index, name)
}
