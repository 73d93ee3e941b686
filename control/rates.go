package control

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"enclave/control/admin"
	"enclave/wire/api"
)

// maxRated is how many callers one table of rates remembers.
const maxRated = 1 << 14

// rates counts what callers do, each on its own, as token buckets. Memory is bounded:
// when it is full the fullest buckets are forgotten, which a caller that has been quiet
// does not notice and a busy one does not reach.
type rates struct {
	every time.Duration // a token comes back
	burst int

	mu   sync.Mutex // guards held
	held map[string]*rate.Limiter
}

func newRates(every time.Duration, burst int) *rates {
	return &rates{every: every, burst: burst, held: make(map[string]*rate.Limiter)}
}

// spent reports whether the caller has nothing left.
func (r *rates) spent(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.held[who]
	return l != nil && l.TokensAt(now) < 1
}

// take takes a token, false when there is none.
func (r *rates) take(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.held[who]
	if l == nil {
		if len(r.held) >= maxRated {
			r.forget(now)
		}
		l = rate.NewLimiter(rate.Every(r.every), r.burst)
		r.held[who] = l
	}
	return l.AllowN(now, 1)
}

func (r *rates) forget(now time.Time) {
	for _, least := range []float64{float64(r.burst), float64(r.burst) / 2, 0} {
		for who, l := range r.held {
			if l.TokensAt(now) >= least {
				delete(r.held, who)
			}
		}
		if len(r.held) <= maxRated/2 {
			return
		}
	}
}

// limits is what one caller may do. What an honest agent needs is far below; it waits
// and asks again when it is told to.
type limits struct {
	messages *rates // any message of an identity
	reach    *rates // reports of another reach: each is written, and told to every peer
	renewals *rates // each is a signature and two transactions
	streams  *rates // each is three transactions, and every peer hears of it
	strays   *rates // enrolments with a secret that nobody made, by address
}

func newLimits() limits {
	return limits{
		messages: newRates(time.Second/200, 400),
		reach:    newRates(time.Second, 30),
		renewals: newRates(10*time.Second, 10),
		streams:  newRates(2*time.Second, 30),
		strays:   newRates(6*time.Second, 10),
	}
}

// tooFast is the answer to somebody who is over a limit.
func tooFast(what string) *api.Problem {
	return admin.NewProblem(http.StatusTooManyRequests, api.CodeTryAgain, "too many "+what, "wait and try again")
}
