package control

import (
	"crypto/ed25519"
	"sync"
	"time"

	"enclave/wire"
	"enclave/wire/ticket"
)

// maxTicketLife bounds a ticket when maps count for ever.
const maxTicketLife = 24 * time.Hour

// tickets signs pair tickets and keeps them: both ends of a pair must get the same
// one, and a map that is rebuilt must not differ by a fresh signature alone. A ticket
// is replaced when half of its life is spent, so whoever hears of it late still has
// the other half.
type tickets struct {
	key  ed25519.PrivateKey
	org  wire.OrgID
	life time.Duration

	mu    sync.Mutex // guards what follows; a signature is made under it, some 20 microseconds
	held  map[pair]held
	swept time.Time
}

// pair is two systems, the lower ID first.
type pair struct{ a, b wire.SystemID }

type held struct {
	raw      []byte
	renewAt  time.Time
	notAfter time.Time
}

func newTickets(key ed25519.PrivateKey, org wire.OrgID, mapLife time.Duration) *tickets {
	life := maxTicketLife
	if mapLife > 0 && mapLife < life {
		life = mapLife
	}
	return &tickets{key: key, org: org, life: life, held: make(map[pair]held)}
}

// get returns the ticket of a pair and the instant from which there is a newer one.
func (t *tickets) get(a, b wire.SystemID, now time.Time) ([]byte, time.Time) {
	p := pair{min(a, b), max(a, b)}
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.held[p]
	if !ok || !now.Before(h.renewAt) {
		h = held{notAfter: now.Add(t.life), renewAt: now.Add(t.life / 2)}
		h.raw = ticket.Sign(t.key, t.org, p.a, p.b, h.notAfter)
		t.held[p] = h
	}
	return h.raw, h.renewAt
}

// sweep forgets tickets that are over, once a life; pairs that no policy introduces
// any more are not renewed and leave this way.
func (t *tickets) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.swept) < t.life {
		return
	}
	t.swept = now
	for p, h := range t.held {
		if !now.Before(h.notAfter) {
			delete(t.held, p)
		}
	}
}
