package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// The bounds of the back-off. The renewal of an SVID has half its life and is in no
// hurry.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 15 * time.Second
	renewMost    = 5 * time.Minute
)

// backoff spaces attempts: each pause lies between a quarter and the whole of a bound
// that doubles up to most, so that a thousand agents do not return in step.
type backoff struct{ bound, most time.Duration }

func (b *backoff) reset() { b.bound = 0 }

func (b *backoff) pause() time.Duration {
	b.bound = min(max(2*b.bound, backoffFirst), b.most)
	return b.bound/4 + rand.N(b.bound*3/4)
}

// wait sleeps for the next pause, or returns false when ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	t := time.NewTimer(b.pause())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
