package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// associate opens a UDP port for one client. It lives as long as the client's TCP
// connection. Only that client may use it: datagrams from another host are dropped,
// and so are those from another port of the same host once one was heard, since on a
// shared machine the host says nothing.
func (s *socksRun) associate(ctx context.Context, c net.Conn, claimed destination) {
	local, client := endpoint(c.LocalAddr()).addr, endpoint(c.RemoteAddr()).addr
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		s.log.Warn("socks: associate", "client", c.RemoteAddr(), "err", err)
		reply(c, reasonTable[Failed].socks, destination{})
		return
	}
	defer pc.Close()
	if err := reply(c, replyOK, endpoint(pc.LocalAddr())); err != nil {
		return
	}
	c.SetDeadline(time.Time{})

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer c.Close()
		a := association{socksRun: s, pc: pc, owner: netip.AddrPortFrom(client, claimed.port)}
		a.run(ctx)
	})
	io.Copy(io.Discard, c) // until the client hangs up
	cancel()
}

// association is owned by the goroutine in run; flows write to pc from their own.
type association struct {
	*socksRun
	pc    *net.UDPConn
	owner netip.AddrPort // port 0 until the first datagram
}

func (a *association) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	flows := newFlows(ctx, a.limits, func(to destination, err error) {
		// A datagram has no way to carry a failure back, so the log must.
		a.log.Info("socks: datagram not sent", "target", to.String(), "reason", reasonOf(err).String(), "err", err)
	})
	defer flows.wait()
	defer cancel()
	readPackets(ctx, a.pc, func(pkt []byte, from netip.AddrPort) {
		if a.owner.Port() == 0 && from.Addr() == a.owner.Addr() {
			a.owner = from
		}
		if from != a.owner {
			return
		}
		to, data, err := parseDatagram(pkt)
		if err != nil {
			return
		}
		flows.send(to, data, func(ctx context.Context) (net.Conn, error) {
			return a.dialer.DialContext(ctx, "udp", to.String())
		}, func(c net.Conn, answer []byte) {
			a.answer(from, to, c, answer)
		})
	})
}

// answer sends what target said to the client, under the address that it came from;
// a client that asked by name learns the address so.
func (a *association) answer(client netip.AddrPort, to destination, target net.Conn, data []byte) {
	if from := endpoint(target.RemoteAddr()); from.addr.IsValid() {
		to = from
	}
	buf := datagrams.Get().(*[maxDatagram + 1]byte)
	defer datagrams.Put(buf)
	a.pc.WriteToUDPAddrPort(appendDatagram(buf[:0], to, data), client)
}
