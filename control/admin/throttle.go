package admin

import (
	"sync"
	"time"
)

const (
	failureBurst  = 10              // wrong tokens an address may try at once
	failureEvery  = 6 * time.Second // and one more each
	maxThrottled  = 10_000          // addresses remembered
	maxRecentGood = 1024            // token hashes remembered
)

// throttle counts failures by address as leaky buckets. Memory is bounded: when it is
// full the emptiest buckets are forgotten, which forgives strangers before offenders.
type throttle struct {
	mu      sync.Mutex // guards buckets
	buckets map[string]bucket
}

// bucket holds the instant at which all failures are forgiven; that instant alone
// says how full it is.
type bucket struct{ until time.Time }

func newThrottle() *throttle { return &throttle{buckets: make(map[string]bucket)} }

// spent reports whether the address has no try left.
func (t *throttle) spent(from string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buckets[from].until.Sub(now) > (failureBurst-1)*failureEvery
}

// take counts one failure.
func (t *throttle) take(from string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buckets[from]
	if b.until.Before(now) {
		b.until = now
	}
	b.until = b.until.Add(failureEvery)
	t.buckets[from] = b
	if len(t.buckets) > maxThrottled {
		t.forget(now)
	}
}

// forget drops what is forgiven, and then whatever is at most half full.
func (t *throttle) forget(now time.Time) {
	for _, limit := range []time.Duration{0, failureBurst / 2 * failureEvery, failureBurst * failureEvery} {
		for from, b := range t.buckets {
			if b.until.Sub(now) <= limit {
				delete(t.buckets, from)
			}
		}
		if len(t.buckets) <= maxThrottled/2 {
			return
		}
	}
}

// recent remembers hashes of tokens that were valid when last used.
type recent struct {
	mu     sync.Mutex // guards hashes
	hashes map[[32]byte]bool
}

func newRecent() *recent { return &recent{hashes: make(map[[32]byte]bool)} }

func (r *recent) has(h [32]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hashes[h]
}

func (r *recent) add(h [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.hashes) >= maxRecentGood {
		clear(r.hashes) // they come back with their next use
	}
	r.hashes[h] = true
}

func (r *recent) remove(h [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hashes, h)
}
