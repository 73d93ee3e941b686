package natlab

import (
	"fmt"
	"net/netip"
)

// allocator deals out address space. All of it is reserved for documentation,
// benchmarks or private use, so that no packet of a lab could reach anyone real:
// RFC 5737, RFC 2544, RFC 3849, RFC 1918.
type allocator struct {
	core4 netip.Prefix // the Internet's hosts
	core6 netip.Prefix
	lan   int // 192.168.n.0/24 given out so far
	small int // public /28 given out so far
	big   int // 2001:db8:n::/64 given out so far
	more  int // 198.18.0.0/15, in /24
}

func newAllocator() allocator {
	return allocator{
		core4: netip.MustParsePrefix("203.0.113.0/24"),
		core6: netip.MustParsePrefix("2001:db8::/64"),
	}
}

// private4 picks the inside of a NAT.
func (a *allocator) private4() netip.Prefix {
	a.lan++
	if a.lan > 255 {
		panic("natlab: more than 255 private networks")
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(a.lan), 0}), 24)
}

// public4 picks the inside of a firewall: 14 addresses of 198.51.100.0/24.
func (a *allocator) public4() netip.Prefix {
	if a.small >= 16 {
		panic("natlab: more than 16 firewalled networks")
	}
	a.small++
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(16 * (a.small - 1))}), 28)
}

// public6 delegates a /64.
func (a *allocator) public6() netip.Prefix {
	a.big++
	return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/64", a.big))
}

// moreCore extends the Internet when its /24 is used up.
func (a *allocator) moreCore() netip.Prefix {
	if a.more >= 512 {
		panic("natlab: the internet has run out of addresses")
	}
	n := a.more
	a.more++
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + n/256), byte(n), 0}), 24)
}
