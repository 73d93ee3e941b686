package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// starved is a listener of a process, or a machine, that has no descriptor left for a while.
type starved struct {
	mu    sync.Mutex // guards what follows
	fails []error
	conn  net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *starved) Accept() (net.Conn, error) {
	l.mu.Lock()
	if len(l.fails) > 0 {
		err := l.fails[0]
		l.fails = l.fails[1:]
		l.mu.Unlock()
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *starved) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *starved) Addr() net.Addr { return &net.TCPAddr{} }

// TestAListenerWithoutDescriptorsWaits: neither a process nor a machine that has no
// descriptor left ends a proxy, and it does not spin meanwhile.
func TestAListenerWithoutDescriptorsWaits(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			l := &starved{conn: far, done: make(chan struct{})}
			for range 20 {
				l.fails = append(l.fails, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended, began := make(chan error, 1), time.Now()
			handled := make(chan time.Duration, 1)
			go func() {
				ended <- serve(ctx, l, 1, slog.New(slog.DiscardHandler), func(context.Context, net.Conn) { handled <- time.Since(began) })
			}()
			select {
			case err := <-ended:
				t.Fatalf("it ended: %v", err)
			case after := <-handled: // 5 ms, doubled up to 1 s
				if after < 10*time.Second || after > 20*time.Second {
					t.Errorf("%v: 20 failures took %s", err, after)
				}
			}
			near.Close()
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}
