package tools

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is so many calls in a time, written 10/s, 100/m or 1000/h. The zero Rate has no
// limit.
type Rate struct {
	Calls int
	Per   time.Duration
}

// UnmarshalText reads what the type's comment shows.
func (r *Rate) UnmarshalText(b []byte) error {
	n, unit, _ := strings.Cut(string(b), "/")
	calls, err := strconv.Atoi(n)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || calls <= 0 || per == 0 {
		return errors.New("want a rate such as 10/s, 100/m or 1000/h")
	}
	*r = Rate{calls, per}
	return nil
}

// maxBuckets bounds the memory of rates. Beyond it those that are full are forgotten,
// which changes nothing, and then the rest, which gives their users one burst more.
const maxBuckets = 16 << 10

// rates holds a bucket for each user of each tool that has a rate.
type rates struct {
	mu      sync.Mutex
	buckets map[bucket]*rate.Limiter
}

type bucket struct{ tool, tenant, user string }

// allow takes a call of the user's rate, or reports false.
func (r *rates) allow(t *tool, who Caller, now time.Time) bool {
	if t.rules.Limits.Rate.Calls == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buckets == nil {
		r.buckets = make(map[bucket]*rate.Limiter)
	}
	key := bucket{t.name, who.Tenant, who.User}
	l := r.buckets[key]
	lim := t.rules.Limits.Rate
	every := rate.Limit(float64(lim.Calls) / lim.Per.Seconds())
	if l != nil && (l.Limit() != every || l.Burst() != lim.Calls) { // declared anew
		l.SetLimitAt(now, every)
		l.SetBurstAt(now, lim.Calls)
	}
	if l == nil {
		if len(r.buckets) >= maxBuckets {
			r.sweep(now)
		}
		l = rate.NewLimiter(every, lim.Calls)
		r.buckets[key] = l
	}
	return l.AllowN(now, 1)
}

func (r *rates) sweep(now time.Time) {
	for key, l := range r.buckets {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(r.buckets, key)
		}
	}
	if len(r.buckets) >= maxBuckets {
		clear(r.buckets)
	}
}
