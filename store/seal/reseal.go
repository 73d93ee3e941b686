package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrPage is returned for a page whose MAC is wrong.
var ErrPage = errors.New("a page is damaged")

// Pages reads every page of the sealed file at path, which nobody may have open, and
// returns how many there are. each, which may be nil, is given the content and the
// page's index. The first wrong page ends it with ErrPage.
func Pages(path string, root *Root, each func(page []byte, index int64) error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	x, mac := newSectors(root, database), newPageMAC(root, database)
	defer x.wipe()
	defer mac.wipe()
	r, page := bufio.NewReaderSize(f, 64*pageSize), make([]byte, pageSize)
	defer clear(page)
	for i := int64(0); ; i++ {
		switch n, err := io.ReadFull(r, page); {
		case errors.Is(err, io.EOF):
			return i, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return i, fmt.Errorf("%w: page %d has %d bytes", ErrPage, i+1, n)
		case err != nil:
			return i, err
		}
		if x.decrypt(page, i*pageSize/sectorSize); !mac.open(page, i) {
			return i, fmt.Errorf("%w: page %d", ErrPage, i+1)
		}
		if each != nil {
			if err := each(page, i); err != nil {
				return i, err
			}
		}
	}
}

// Reseal writes the database at from, sealed under old, to a new file sealed under
// root, and syncs it. Its log must have been written back. On error the new file is
// garbage.
func Reseal(from string, old *Root, to string, root *Root) (pages int64, err error) {
	w, err := CreatePages(to, root)
	if err != nil {
		return 0, err
	}
	pages, err = Pages(from, old, w.Write)
	if err == nil {
		err = w.Sync()
	}
	return pages, errors.Join(err, w.Close())
}
