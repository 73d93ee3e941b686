package seal

import (
	"errors"
	"os"
)

// PageWriter writes the pages of a sealed database that nobody has open yet. It is
// for one goroutine.
type PageWriter struct {
	f    *os.File
	x    *sectors
	mac  *pageMAC
	page [pageSize]byte
}

// PageSize is the size of a page in bytes. The last MACSize of them are free.
const (
	PageSize = pageSize
	MACSize  = macSize
)

// CreatePages makes a file, or empties the one there.
func CreatePages(path string, root *Root) (*PageWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &PageWriter{f: f, x: newSectors(root, database), mac: newPageMAC(root, database)}, nil
}

// Write seals a page and writes it to its place; index begins at 0.
func (w *PageWriter) Write(page []byte, index int64) error {
	if len(page) != pageSize || index < 0 {
		return errors.New("seal: that is no page")
	}
	copy(w.page[:], page)
	w.mac.seal(w.page[:], index)
	w.x.encrypt(w.page[:], index*pageSize/sectorSize)
	_, err := w.f.WriteAt(w.page[:], index*pageSize)
	return err
}

// Truncate makes the file as long as that many pages.
func (w *PageWriter) Truncate(pages int64) error { return w.f.Truncate(pages * pageSize) }

// Sync makes what was written durable.
func (w *PageWriter) Sync() error { return w.f.Sync() }

// Close closes the file and drops the keys.
func (w *PageWriter) Close() error {
	w.x.wipe()
	w.mac.wipe()
	clear(w.page[:])
	return w.f.Close()
}

// Watch begins to note the pages that are written to the log of a database of this
// layer, committed or not, and returns those noted since the Watch before.
func (v *VFS) Watch() map[uint32]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	noted := v.pages
	v.pages = make(map[uint32]bool)
	return noted
}

// Unwatch ends that.
func (v *VFS) Unwatch() {
	v.mu.Lock()
	v.pages = nil
	v.mu.Unlock()
}

// wrote notes a page.
func (v *VFS) wrote(page uint32) {
	v.mu.Lock()
	if v.pages != nil {
		v.pages[page] = true
	}
	v.mu.Unlock()
}
