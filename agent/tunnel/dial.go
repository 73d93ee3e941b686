package tunnel

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections a listener holds that nobody has accepted yet.
const backlog = 128

// DialTCP is as Tunnel.DialTCP.
func (n *nic) DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var wq waiter.Queue
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, protoOf(dst.Addr()), &wq)
	if terr != nil {
		return nil, opError("dial", "tcp", dst, terr)
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)

	terr = ep.Connect(fullAddr(dst))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Close()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(dst), Err: ctx.Err()}
		case <-n.port.done: // a stack that has ended answers nothing
			ep.Close()
			return nil, errClosed("dial", "tcp")
		case <-ready:
		}
		terr = ep.LastError()
	}
	if terr != nil {
		ep.Close()
		return nil, opError("dial", "tcp", dst, terr)
	}
	return newTCPConn(&wq, ep, &n.growth), nil
}

// ListenTCP is as Tunnel.ListenTCP.
func (n *nic) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	l := &listener{done: n.port.done, growth: &n.growth}
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, protoOf(at.Addr()), &l.wq)
	if terr != nil {
		return nil, opError("listen", "tcp", at, terr)
	}
	l.ep = ep
	// A service that restarts must get its port back while old connections linger.
	ep.SocketOptions().SetReuseAddress(true)
	if terr = ep.Bind(fullAddr(at)); terr == nil {
		terr = ep.Listen(backlog)
	}
	var local tcpip.FullAddress
	if terr == nil {
		local, terr = ep.GetLocalAddress()
	}
	if terr != nil {
		ep.Close()
		return nil, opError("listen", "tcp", at, terr)
	}
	l.at = netip.AddrPortFrom(at.Addr(), local.Port)
	return l, nil
}

type listener struct {
	done   <-chan struct{} // of the stack
	growth *growth
	wq     waiter.Queue
	ep     tcpip.Endpoint
	at     netip.AddrPort
	close  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, terr := l.ep.Accept(nil)
		if terr == nil {
			return newTCPConn(wq, ep, l.growth), nil
		}
		if _, wait := terr.(*tcpip.ErrWouldBlock); !wait {
			// The endpoint left the listening state: Close, or the stack ended.
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		}
		select {
		case <-ready:
		case <-l.done:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		}
	}
}

func (l *listener) Close() error {
	l.close.Do(l.ep.Close) // wakes Accept
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
