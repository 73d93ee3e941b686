package relay

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxTableBits keeps a mistyped setting from asking for gigabytes.
const maxTableBits = 24

// buckets limits answers by source prefix in a table that never grows: a prefix is
// hashed, with a key of this process, to a bucket that it may share. So spoofed
// sources cannot fill memory, nor push anybody out, nor choose whom they meet; they
// can only use up the buckets they hit, and what is spent there is the limit itself.
type buckets struct {
	seed  maphash.Seed
	rate  float64 // tokens a second
	burst float64

	// mu guards table. STUN is a few answers per agent and minute; one lock serves.
	mu    sync.Mutex
	table []bucket
}

// bucket holds the tokens spent, so that the zero value is a full one.
type bucket struct {
	spent float64
	at    int64 // unix nanoseconds
}

func newBuckets(l *Limits) *buckets {
	return &buckets{
		seed:  maphash.MakeSeed(),
		rate:  float64(min(l.STUNRate, rate.Limit(1e9))),
		burst: float64(l.STUNBurst),
		table: make([]bucket, 1<<min(l.STUNTableBits, maxTableBits)),
	}
}

// allow takes a token for ip's prefix: /24 of IPv4, /48 of IPv6. A clock that goes
// back refills nothing.
func (t *buckets) allow(ip netip.Addr, now time.Time) bool {
	var key [7]byte
	if ip.Is4() {
		b := ip.As4()
		key[0] = 4
		copy(key[1:], b[:3])
	} else {
		b := ip.As16()
		key[0] = 6
		copy(key[1:], b[:6])
	}
	i := maphash.Bytes(t.seed, key[:]) & uint64(len(t.table)-1)
	ns := now.UnixNano()
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &t.table[i]
	if d := ns - b.at; d > 0 {
		b.spent = max(0, b.spent-t.rate*time.Duration(d).Seconds())
		b.at = ns
	}
	if b.spent+1 > t.burst {
		return false
	}
	b.spent++
	return true
}
