package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Limits bound what clients can make a server hold. A zero field is its default.
type Limits struct {
	Conns     int           // connections at once; default 1024
	Handshake time.Duration // from accept to a whole request; default 10 s
	Dial      time.Duration // to reach a target; default 30 s
	Flows     int           // UDP flows at once: of one association, or of one relay; default 256
	Idle      time.Duration // silence after which a UDP flow ends; default 5 min (RFC 4787 REQ-5)
}

func (l Limits) withDefaults() Limits {
	set(&l.Conns, 1024)
	set(&l.Handshake, 10*time.Second)
	set(&l.Dial, 30*time.Second)
	set(&l.Flows, 256)
	set(&l.Idle, 5*time.Minute)
	return l
}

func set[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Pauses after an accept that failed for want of descriptors or memory.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// serve hands each connection of l to handle, in a goroutine, and resets those beyond
// limit. When ctx ends it closes l; handle must return then. It returns when all
// handlers have: nil after ctx, else why accepting ended.
func serve(ctx context.Context, l net.Listener, limit int, log *slog.Logger, handle func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before Wait: a listener that failed ends its connections, too
	slots := make(chan struct{}, limit)
	pause := firstPause
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			log.Warn("accept", "listener", l.Addr(), "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				defer c.Close()
				handle(ctx, c)
			})
		default:
			log.Warn("too many connections", "listener", l.Addr(), "limit", limit, "client", c.RemoteAddr())
			abort(c)
		}
	}
}
