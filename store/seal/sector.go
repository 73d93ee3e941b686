package seal

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/xts"
)

const (
	// sectorSize is the unit of encryption. It is the smallest unit that disks
	// write whole, so a crash leaves a sector old or new and never undecipherable.
	sectorSize = 512

	// pageSize is that of every sealed database.
	pageSize = 4096

	// macSize is how many bytes SQLite leaves free at the end of each page for us.
	macSize = sha256.Size
)

// role is what a file is to SQLite. Each role has its own sector key: a sector
// copied from one file into another deciphers to noise.
type role byte

const (
	database role = 'd'
	wal      role = 'w'
	journal  role = 'j'
	// scratch files die with the handle that made them; their key is made for the
	// handle and kept nowhere.
	scratch role = 's'
)

func (r role) String() string {
	switch r {
	case database:
		return "database"
	case wal:
		return "write-ahead log"
	case journal:
		return "rollback journal"
	}
	return "scratch file"
}

// sectors enciphers whole sectors: AES-256 in XTS mode (IEEE 1619) with the
// sector's number in its file as the tweak.
type sectors struct{ x *xts.Cipher }

func newSectors(root *Root, r role) sectors {
	var key []byte
	if r == scratch {
		key = make([]byte, 64)
		rand.Read(key)
	} else {
		key = root.subkey(forSectors+r.String(), 64)
	}
	defer clear(key)
	x, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		panic(err) // only a key of another size can fail
	}
	return sectors{x}
}

// encrypt enciphers whole sectors in place; the first has number n.
func (s sectors) encrypt(b []byte, n int64) {
	for ; len(b) > 0; b, n = b[sectorSize:], n+1 {
		s.x.Encrypt(b[:sectorSize], b[:sectorSize], uint64(n))
	}
}

// decrypt is the way back.
func (s sectors) decrypt(b []byte, n int64) {
	for ; len(b) > 0; b, n = b[sectorSize:], n+1 {
		s.x.Decrypt(b[:sectorSize], b[:sectorSize], uint64(n))
	}
}

// pageMAC authenticates pages: HMAC-SHA-256 over the role of the file, the number
// of the page in it and the content. XTS alone would turn a flipped bit into 16
// random bytes and hand them out.
type pageMAC struct {
	h    hash.Hash
	head [9]byte
	sum  [macSize]byte
}

func newPageMAC(root *Root, r role) *pageMAC {
	key := root.subkey(forPageMAC, 32)
	defer clear(key)
	return &pageMAC{h: hmac.New(sha256.New, key), head: [9]byte{byte(r)}}
}

func (m *pageMAC) compute(page []byte, number int64) []byte {
	binary.BigEndian.PutUint64(m.head[1:], uint64(number))
	m.h.Reset()
	m.h.Write(m.head[:])
	m.h.Write(page[:pageSize-macSize])
	return m.h.Sum(m.sum[:0])
}

// seal writes the MAC into the free bytes of a page.
func (m *pageMAC) seal(page []byte, number int64) {
	copy(page[pageSize-macSize:], m.compute(page, number))
}

// open checks the MAC and clears it: SQLite sees zeroes there, as it wrote them. A
// page that fails stays as it is.
func (m *pageMAC) open(page []byte, number int64) bool {
	if !hmac.Equal(m.compute(page, number), page[pageSize-macSize:pageSize]) {
		return false
	}
	clear(page[pageSize-macSize : pageSize])
	return true
}
