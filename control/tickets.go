package control

import (
	"crypto/ed25519"
	"hash/fnv"
	"sync"
	"time"

	"enclave/wire"
	"enclave/wire/ticket"
)

const (
	// maxTicketLife bounds a ticket when maps count for ever.
	maxTicketLife = 24 * time.Hour
	// ticketTurns spreads the renewals of an organisation over half a life: not all
	// pairs at one instant, and no stream at more than so many.
	ticketTurns = 8
	// maxHeldTickets bounds the signatures that are remembered, some 250 bytes each. A
	// signature that was forgotten is made again, in some 30 microseconds.
	maxHeldTickets = 1 << 16
)

// tickets signs pair tickets. When a ticket of a pair ends follows from the pair and
// the clock alone, and signatures are deterministic: both ends of a pair get the same
// ticket, also from a server that has restarted, and nothing has to be kept for each of
// millions of pairs. A ticket is replaced when half of its life is left, so whoever
// hears of it late still has the other half.
type tickets struct {
	key  ed25519.PrivateKey
	org  wire.OrgID
	life time.Duration

	mu        sync.Mutex // guards what follows; never held while signing
	held, old map[pair]held
}

// pair is two systems, the lower ID first.
type pair struct{ a, b wire.SystemID }

type held struct {
	raw      []byte
	notAfter time.Time
}

func newTickets(key ed25519.PrivateKey, org wire.OrgID, mapLife time.Duration) *tickets {
	life := maxTicketLife
	if mapLife > 0 && mapLife < life {
		life = mapLife
	}
	return &tickets{key: key, org: org, life: life, held: make(map[pair]held)}
}

// until returns the end of the ticket of a pair at now, and the instant from which
// there is a newer one.
func (t *tickets) until(a, b wire.SystemID, now time.Time) (notAfter, renewAt time.Time) {
	half := max(t.life/2, 1)
	h := fnv.New32a()
	_, _ = h.Write([]byte(min(a, b))) // a hash takes everything
	_, _ = h.Write([]byte(max(a, b)))
	turn := half / ticketTurns * time.Duration(h.Sum32()%ticketTurns)
	begun := now.Add(-turn).Truncate(half).Add(turn)
	return begun.Add(2 * half).UTC(), begun.Add(half).UTC()
}

// get returns the ticket of a pair that ends at notAfter.
func (t *tickets) get(a, b wire.SystemID, notAfter time.Time) []byte {
	p := pair{min(a, b), max(a, b)}
	t.mu.Lock()
	h, ok := t.held[p]
	if !ok {
		h, ok = t.old[p]
	}
	t.mu.Unlock()
	if ok && h.notAfter.Equal(notAfter) {
		return h.raw
	}
	// Without the lock: if both ends sign at once, they sign the same.
	h = held{ticket.Sign(t.key, t.org, p.a, p.b, notAfter), notAfter}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) >= maxHeldTickets/2 {
		t.held, t.old = make(map[pair]held), t.held
	}
	t.held[p] = h
	return h.raw
}

// turn is the tickets of one system while its map is looked at; a discovery.Tickets. It
// notes when the first of them is to be renewed.
type turn struct {
	tickets *tickets
	self    wire.SystemID
	now     time.Time
	renewAt time.Time
}

// Until implements discovery.Tickets.
func (t *turn) Until(peer wire.SystemID) time.Time {
	notAfter, renew := t.tickets.until(t.self, peer, t.now)
	if renew.Before(t.renewAt) {
		t.renewAt = renew
	}
	return notAfter
}

// Ticket implements discovery.Tickets.
func (t *turn) Ticket(peer wire.SystemID) []byte {
	return t.tickets.get(t.self, peer, t.Until(peer))
}
