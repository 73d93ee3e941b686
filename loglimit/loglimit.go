// Package loglimit bounds what somebody else can make a log hold.
//
// A line that a stranger or a peer causes, by a request that is refused or a connection
// that leads nowhere, is worth reading once and costs them nothing to repeat: thousands a
// second fill a disk. A logger of this package writes a burst of lines and then one every
// while; the next line that is written says how many were left out. Records below
// slog.LevelInfo pass: whoever asked for them wants all.
//
// It keeps no text, and it never waits. Decision: 0231.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The presets: enough to see what goes on, and some megabytes a day at most.
const (
	Burst = 100
	Every = 5 * time.Second
)

// New returns a logger that writes to log at most Burst lines at once and one each Every,
// whoever causes them. What is derived from it shares the bound.
func New(log *slog.Logger) *slog.Logger {
	return slog.New(handler{log.Handler(), &bound{lines: rate.NewLimiter(rate.Every(Every), Burst)}})
}

// bound is shared by all handlers of one logger.
type bound struct {
	lines *rate.Limiter

	mu   sync.Mutex // guards left; never held while writing
	left int        // out since the last line
}

// take reports whether a line may be written, and how many were not since the last.
func (b *bound) take(now time.Time) (left int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.lines.AllowN(now, 1) {
		b.left++
		return 0, false
	}
	left, b.left = b.left, 0
	return left, true
}

type handler struct {
	slog.Handler
	*bound
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	left, ok := h.take(time.Now())
	if !ok {
		return nil
	}
	if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", left))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.bound}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.bound}
}
