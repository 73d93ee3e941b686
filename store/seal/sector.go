package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
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

// sectors enciphers whole sectors: AES-256 in XTS mode (IEEE 1619) with the sector's
// number in its file as the tweak. It is for one goroutine at a time.
//
// golang.org/x/crypto/xts does the same three times slower, a byte at a time, which
// a commit on a fast disk would feel; a test holds the two against each other.
type sectors struct {
	data, tweak cipher.Block
	mask        [sectorSize]byte // the tweak of each block; all zero between calls
}

func newSectors(root *Root, r role) *sectors {
	var key []byte
	if r == scratch {
		key = make([]byte, 64)
		rand.Read(key)
	} else {
		key = root.subkey(forSectors+r.String(), 64)
	}
	defer clear(key)
	return sectorsWith(key)
}

// sectorsWith takes the two keys of XTS, 32 bytes each.
func sectorsWith(key []byte) *sectors {
	data, err := aes.NewCipher(key[:32])
	tweak, err2 := aes.NewCipher(key[32:])
	if err := errors.Join(err, err2); err != nil {
		panic(err) // only keys of another size can fail
	}
	pinCipher(data)
	pinCipher(tweak)
	return &sectors{data: data, tweak: tweak}
}

// wipe overwrites the keys.
func (s *sectors) wipe() {
	wipeObject(s.data)
	wipeObject(s.tweak)
}

// encrypt enciphers whole sectors in place; the first has number n.
func (s *sectors) encrypt(b []byte, n int64) { s.each(b, n, s.data.Encrypt) }

// decrypt is the way back.
func (s *sectors) decrypt(b []byte, n int64) { s.each(b, n, s.data.Decrypt) }

func (s *sectors) each(b []byte, n int64, block func(dst, src []byte)) {
	for ; len(b) > 0; b, n = b[sectorSize:], n+1 {
		s.setMask(uint64(n))
		sector := b[:sectorSize]
		subtle.XORBytes(sector, sector, s.mask[:])
		for i := 0; i < sectorSize; i += aes.BlockSize {
			block(sector[i:i+aes.BlockSize], sector[i:i+aes.BlockSize])
		}
		subtle.XORBytes(sector, sector, s.mask[:])
	}
	clear(s.mask[:])
}

// setMask sets the tweak of each block of sector n: the enciphered number, then times
// x for each block, in the field of 2^128 elements (IEEE 1619, 5.2).
func (s *sectors) setMask(n uint64) {
	first := s.mask[:aes.BlockSize]
	clear(first)
	binary.LittleEndian.PutUint64(first, n)
	s.tweak.Encrypt(first, first)
	lo, hi := binary.LittleEndian.Uint64(first), binary.LittleEndian.Uint64(first[8:])
	for i := aes.BlockSize; i < sectorSize; i += aes.BlockSize {
		lo, hi = lo<<1^(hi>>63)*0x87, hi<<1|lo>>63
		binary.LittleEndian.PutUint64(s.mask[i:], lo)
		binary.LittleEndian.PutUint64(s.mask[i+8:], hi)
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

// wipe overwrites the key.
func (m *pageMAC) wipe() { wipeObject(m.h) }

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
