package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/tun/netstack"
)

const (
	// maxEchoes bounds how many echoes a Ping has under way.
	maxEchoes = 16
	// firstPause is between the first two echoes; pauses double up to pingEvery. It is
	// short for the sake of a reply that the stock socket slept through.
	firstPause = 50 * time.Millisecond
)

// Ping is as Tunnel.Ping. Each echo has a socket of its own, because the stock one
// waits to be told of a reply before it looks for one: a reply that was early would
// come out with the next and be given that one's time. So it is lost, and another
// echo follows soon.
func (s *stock) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	self := &socket{end: cancel}
	if !s.sockets.add(self) {
		return 0, errClosed("ping", "icmp")
	}
	defer s.sockets.remove(self)

	var open []*netstack.PingConn
	var readers sync.WaitGroup
	defer func() {
		for _, c := range open {
			c.Close()
		}
		readers.Wait()
	}()
	replies := make(chan time.Duration, 1)
	send := func() error {
		if !s.gate.enter() {
			return errClosed("ping", "icmp")
		}
		defer s.gate.leave()
		c, err := s.net.DialPingAddr(netip.Addr{}, addr)
		if err != nil {
			return err
		}
		if open = append(open, c); len(open) > maxEchoes {
			open[0].Close()
			open = open[1:]
		}
		sent := time.Now()
		readers.Go(func() { awaitEcho(c, addr, sent, replies) })
		_, err = c.Write(echo(addr, 0))
		return err
	}
	start := time.Now()
	for pause := firstPause; ; pause = min(2*pause, pingEvery) {
		if err := send(); err != nil {
			return 0, err
		}
		select {
		case rtt := <-replies:
			return rtt, nil
		case <-time.After(pause):
		case <-inner.Done():
			if ctx.Err() == nil {
				return 0, errClosed("ping", "icmp")
			}
			return 0, unanswered(ctx, start)
		}
	}
}

func awaitEcho(c *netstack.PingConn, addr netip.Addr, sent time.Time, replies chan<- time.Duration) {
	for buf := make([]byte, 64); ; {
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		if _, ok := echoReply(addr, buf[:n]); ok {
			select {
			case replies <- time.Since(sent):
			default:
			}
			return
		}
		if err != nil {
			return
		}
	}
}
