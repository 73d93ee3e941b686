package link

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where the filter of a UDP socket finds things: it starts at the UDP header, and the IP
// header is at an offset of its own (linux/filter.h).
const (
	atPort    = 0
	atPayload = 8
	atIP      = 0xfff00000 // SKF_NET_OFF
	atSource4 = atIP + 12
	atSource6 = atIP + 8
	etherIPv4 = 0x0800

	discoMagic = 0xec6e636c // the first bytes of wire/disco's
	whole      = 1 << 18    // as much as any packet has
)

// raise makes the kernel drop what comes from none of the addresses, but for one in share
// of the probes.
func (b *batcher) raise(known []netip.AddrPort, share int) error {
	raw, err := bpf.Assemble(shieldProgram(known, share))
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	cerr := b.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// lower lets everybody through again.
func (b *batcher) lower() {
	_ = b.raw.Control(func(fd uintptr) { // fails on a closed socket, which has no filter either
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	})
}

// shieldProgram is the filter in classic BPF, which needs no privilege: the known sources
// of the packet's family, one after the other, and then the rule for strangers.
func shieldProgram(known []netip.AddrPort, share int) (p []bpf.Instruction) {
	var four, six []bpf.Instruction
	for _, a := range known {
		if a.Addr().Is4() {
			ip := a.Addr().As4()
			four = append(four, from([]uint32{atSource4}, ip[:], a.Port())...)
		} else {
			ip := a.Addr().As16()
			six = append(six, from([]uint32{atSource6, atSource6 + 4, atSource6 + 8, atSource6 + 12}, ip[:], a.Port())...)
		}
	}
	p = append(p, bpf.LoadAbsolute{Off: atPort, Size: 2}, bpf.StoreScratch{Src: bpf.RegA, N: 0},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(four)) + 1})
	p = append(p, four...)
	p = append(p, bpf.Jump{Skip: uint32(len(six))})
	p = append(p, six...)
	return append(p,
		bpf.LoadAbsolute{Off: atPayload, Size: 4}, // what is shorter ends here, dropped
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: discoMagic, SkipFalse: 3},
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: ^uint32(0) / uint32(share), SkipTrue: 1},
		bpf.RetConstant{Val: whole},
		bpf.RetConstant{Val: 0})
}

// from lets a packet through whose source is ip, read a word at each offset, and port,
// which is kept in the scratch memory.
func from(offsets []uint32, ip []byte, port uint16) (p []bpf.Instruction) {
	left := uint8(2*len(offsets) + 3) // instructions of this entry behind the current one
	for i, off := range offsets {
		left -= 2
		p = append(p, bpf.LoadAbsolute{Off: off, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(ip[4*i:]), SkipFalse: left})
	}
	return append(p, bpf.LoadScratch{Dst: bpf.RegA, N: 0},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipFalse: 1},
		bpf.RetConstant{Val: whole})
}
