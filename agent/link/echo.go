package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Echo sends an ICMP echo request from an unprivileged ping socket, where the system has
// them (Linux: net.ipv4.ping_group_range; macOS), and returns once it is answered. The
// kernel chooses the identifier and hands over the answers to it alone.
func (system) Echo(ctx context.Context, to netip.Addr, seq uint16, payload []byte) error {
	network, at, proto := "udp4", "0.0.0.0", 1
	var ask, answer icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, at, proto = "udp6", "::", 58
		ask, answer = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := icmp.ListenPacket(network, at)
	if err != nil {
		return fmt.Errorf("no ping socket (on Linux, sysctl net.ipv4.ping_group_range must include this group): %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := (&icmp.Message{Type: ask, Body: &icmp.Echo{Seq: int(seq), Data: payload}}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.UDPAddr{IP: to.AsSlice()}); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != answer {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.Seq == int(seq) {
			return nil
		}
	}
}
