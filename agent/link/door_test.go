package link

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// callers is a listener with these callers, and then without descriptors.
type callers struct {
	net.Listener
	come chan net.Conn
	end  chan struct{}
}

func (c *callers) Accept() (net.Conn, error) {
	select {
	case one := <-c.come:
		return one, nil
	case <-c.end:
		return nil, net.ErrClosed
	default:
		return nil, syscall.EMFILE
	}
}

func (c *callers) Close() error {
	close(c.end)
	return nil
}

// callFrom is a connection that comes from addr.
type callFrom struct {
	net.Conn
	addr netip.AddrPort
}

func (f callFrom) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(f.addr) }

// TestNoDescriptorsLeft: who says nothing gives way, the oldest first, when places run out
// and when descriptors do; and the log says so now and then, not ten times a second.
func TestNoDescriptorsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		ln := &callers{come: make(chan net.Conn, 2*doorSlots), end: make(chan struct{})}
		l := &Link{log: slog.New(slog.NewTextHandler(&logged, nil)), listener: ln}
		var far []net.Conn
		for i := range doorSlots + 3 {
			ours, theirs := net.Pipe()
			far = append(far, theirs)
			ln.come <- callFrom{ours, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 1000)}
		}
		closed := make(chan int, len(far))
		for i, c := range far {
			go func() {
				if _, err := c.Read(make([]byte, 1)); err == io.EOF {
					closed <- i
				}
			}()
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.acceptStreams(ctx); close(done) }()
		time.Sleep(acceptSoon / 2) // all have come, and the first of those without a descriptor
		if n := l.door.count(); n != doorSlots-1 || len(closed) != 4 {
			t.Errorf("%d wait, %d were turned out", n, len(closed))
		}
		time.Sleep(streamIn / 2)
		if n := l.door.count(); n != 0 || len(closed) != len(far) {
			t.Errorf("%d wait, %d were turned out for want of descriptors", n, len(closed))
		}
		time.Sleep(10*acceptSaid - streamIn)
		stop()
		<-done
		l.group.Wait()
		if n := strings.Count(logged.String(), "too many open files"); n != 10 {
			t.Errorf("%d lines in ten minutes", n)
		}
	})
}
