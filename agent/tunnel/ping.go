package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// pingEvery is the rhythm of echoes until one is answered. The first may be lost
// while a path is still being found.
const pingEvery = time.Second

// Ping is as Tunnel.Ping.
func (n *nic) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	transport := icmp.ProtocolNumber4
	if addr.Is6() {
		transport = icmp.ProtocolNumber6
	}
	at := netip.AddrPortFrom(addr, 0)
	var wq waiter.Queue
	ep, terr := n.stack.NewEndpoint(transport, protoOf(addr), &wq)
	if terr != nil {
		return 0, opError("socket", "icmp", at, terr)
	}
	defer ep.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if terr := ep.Connect(fullAddr(at)); terr != nil {
		return 0, opError("connect", "icmp", at, terr)
	}

	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	start := time.Now()
	var sent []time.Time // by sequence number
	send := func() error {
		if len(sent) > 0xffff {
			return context.DeadlineExceeded
		}
		if _, terr := ep.Write(bytes.NewReader(echo(addr, uint16(len(sent)))), tcpip.WriteOptions{}); terr != nil {
			return opError("write", "icmp", at, terr)
		}
		sent = append(sent, time.Now())
		return nil
	}
	if err := send(); err != nil {
		return 0, err
	}
	for {
		select {
		case <-ctx.Done():
			return 0, unanswered(ctx, start)
		case <-n.port.done:
			return 0, errClosed("ping", "icmp")
		case <-tick.C:
			if err := send(); err != nil {
				return 0, err
			}
		case <-ready:
			for {
				var reply bytes.Buffer
				if _, terr := ep.Read(&reply, tcpip.ReadOptions{}); terr != nil {
					if _, wait := terr.(*tcpip.ErrWouldBlock); wait {
						break
					}
					return 0, opError("read", "icmp", at, terr)
				}
				if seq, ok := echoReply(addr, reply.Bytes()); ok && int(seq) < len(sent) {
					return time.Since(sent[seq]), nil
				}
			}
		}
	}
}

func unanswered(ctx context.Context, start time.Time) error {
	return fmt.Errorf("no answer in %s: %w", time.Since(start).Round(time.Millisecond), ctx.Err())
}

// echo is an echo request; the stack fills in identifier and checksum.
//
//	type 1 | code 1 | checksum 2 | identifier 2 | sequence 2 | 8 bytes of padding
func echo(to netip.Addr, seq uint16) []byte {
	b := make([]byte, 16)
	b[0] = byte(header.ICMPv4Echo)
	if to.Is6() {
		b[0] = byte(header.ICMPv6EchoRequest)
	}
	binary.BigEndian.PutUint16(b[6:], seq)
	return b
}

// echoReply reads the sequence number; the stack has matched the identifier.
func echoReply(from netip.Addr, b []byte) (uint16, bool) {
	want := byte(header.ICMPv4EchoReply)
	if from.Is6() {
		want = byte(header.ICMPv6EchoReply)
	}
	if len(b) < 8 || b[0] != want {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:]), true
}
