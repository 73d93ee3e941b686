package link

import (
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/blake2s"

	"enclave/wire"
)

// Whoever forges the address of a connected peer passes every look at addresses. What it
// cannot know are the indices by which WireGuard calls its sessions: the receiver chose
// each at random and sent it in its handshake message, which went through here. So what
// names another index is dropped before it costs the device anything, and in a flood by
// the kernel; handshakes must carry the first MAC of this system's key, and come at a
// rate. None of it is a proof, which is WireGuard's business; it only drops what WireGuard
// would (decision 0185).
const (
	cookieReply = 3
	data        = 4

	// maxKeys is how many sessions are remembered. WireGuard keeps three: the one before,
	// the one in use, and one that the peer has not used yet.
	maxKeys = 8

	// initEvery and initBurst bound initiations of one peer. An honest one sends one every
	// five seconds and repeats it three times; more come when it restarts.
	initEvery = 100 * time.Millisecond
	initBurst = 20
)

// sessions are the indices under which a peer may call.
type sessions struct {
	// known is all of them. It is replaced and never changed; nil until there has been a
	// session: a peer that was set anew may have one from before, so all pass till then.
	known atomic.Pointer[[]uint32]
	inits atomic.Int64 // when the next initiation is due at the steady rate, since Link.base

	// mu guards what follows. It is held for a look at a few numbers.
	mu    sync.Mutex
	asked uint32    // of our initiation that waits; what WireGuard had asked before is void
	given [2]uint32 // of our last responses that the peer has not used; the newest first
	keys  []uint32  // of sessions, the newest first
}

// indexAt reads an index as the kernel's filter would: its bytes in their order.
func indexAt(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }

// sent looks at a handshake message that WireGuard sends.
func (s *sessions) sent(b []byte) {
	i := indexAt(b, 4)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b[0] == initiation:
		s.asked = i
	case s.given[0] != i:
		s.given = [2]uint32{i, s.given[0]}
	}
	s.publish()
}

// publish stores what is known. The caller holds mu.
func (s *sessions) publish() {
	if len(s.keys) == 0 {
		return
	}
	all := s.all(nil)
	s.known.Store(&all)
}

// all appends what is known. Zero stands for none: WireGuard draws it once in four billion
// times, and that session then fails and is made anew. The caller holds mu.
func (s *sessions) all(to []uint32) []uint32 {
	to = append(to, s.keys...)
	for _, i := range [...]uint32{s.asked, s.given[0], s.given[1]} {
		if i != 0 {
			to = append(to, i)
		}
	}
	return to
}

// append is all for the kernel, also while everything passes here.
func (s *sessions) append(to []uint32) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all(to)
}

// knows reports whether a message that names index i may be of a session.
func (s *sessions) knows(i uint32) bool {
	known := s.known.Load()
	return known == nil || slices.Contains(*known, i)
}

// answered takes a response or data under index i: asked for, or used for the first time,
// it is a session's. On the data path this is one comparison.
func (s *sessions) answered(i uint32) {
	if known := s.known.Load(); known != nil && (*known)[0] == i {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch i {
	case 0:
		return
	case s.asked:
		s.asked = 0
	case s.given[0]:
		s.given = [2]uint32{}
	case s.given[1]:
		s.given[1] = 0
	default:
		return
	}
	s.keys = slices.Insert(s.keys[:min(len(s.keys), maxKeys-1)], 0, i)
	s.publish()
}

// mayInitiate is a token bucket of initiations.
func (s *sessions) mayInitiate(l *Link) bool {
	now := l.sinceBase()
	for {
		due := s.inits.Load()
		if due-now > int64(initBurst*initEvery) {
			return false
		}
		if s.inits.CompareAndSwap(due, max(due, now)+int64(initEvery)) {
			return true
		}
	}
}

// plausible reports whether WireGuard has use for b, which came from p and has the shape
// of a message.
func (l *Link) plausible(p *peer, b []byte) bool {
	s := &p.sessions
	switch {
	case b[0] == data:
		i := indexAt(b, 4)
		if !s.knows(i) {
			return false
		}
		s.answered(i)
	case b[0] == initiation:
		if len(b) != initiationLen || !l.macs.first(b) || !s.mayInitiate(l) {
			l.shield.inits.Add(1)
			return false
		}
	case b[0] == response:
		if len(b) != responseLen || !s.knows(indexAt(b, 8)) || !l.macs.first(b) {
			return false
		}
		if i := indexAt(b, 8); i == s.waits() {
			s.answered(i)
		}
	default:
		return s.knows(indexAt(b, 4))
	}
	return true
}

// waits is the index of our initiation.
func (s *sessions) waits() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// macs checks the first MAC of handshake messages, which is keyed with the receiver's
// public key: a BLAKE2s over all before it (WireGuard paper, section 5.4.4).
type macs struct {
	mu  sync.Mutex // guards both; held for half a microsecond
	h   hash.Hash
	sum [blake2s.Size128]byte
}

func newMACs(k wire.WireGuardKey) *macs {
	key := blake2s.Sum256(append([]byte("mac1----"), k[:]...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(err) // only a key of the wrong size, and this one has the hash's
	}
	return &macs{h: h}
}

func (m *macs) first(b []byte) bool {
	end := len(b) - blake2s.Size128 // where the second begins
	body, mac := b[:end-blake2s.Size128], b[end-blake2s.Size128:end]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.h.Reset()
	m.h.Write(body)
	return subtle.ConstantTimeCompare(m.h.Sum(m.sum[:0]), mac) == 1
}
