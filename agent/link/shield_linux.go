package link

import (
	"encoding/binary"
	"net/netip"
	"slices"

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

	atIndex    = atPayload + 4 // of data and cookie replies
	atAnswered = atPayload + 8 // of responses
	atProber   = atPayload + 6 // the sender's key in a probe

	discoMagic   = 0xec6e636c // the first bytes of wire/disco's
	stunResponse = 0x0101     // RFC 8489 section 5; an error is 0x0111
	stunError    = 0x0111
	whole        = 1 << 18 // as much as any packet has
)

// raise makes the kernel drop what does not pass the sieve.
func (b *batcher) raise(s *sieve) error {
	raw, err := bpf.Assemble(s.program())
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

// program is the sieve in classic BPF, which needs no privilege: what a packet is decides
// what it has to show, and then where it has to be from. Its parts, in this order, jump
// only forward:
//
//	head       tells kinds apart; what is shorter than a word ends there, dropped
//	answer     of STUN: on to the servers
//	probe      of a known key, or one in so many
//	initiation one in so many: on to the peers
//	response, data, cookie reply: a known index: on to the peers
//	peers, servers
func (s *sieve) program() (p []bpf.Instruction) {
	peers, servers := sources(s.peers), sources(s.servers)

	var index []bpf.Instruction // A is an index
	for i, v := range s.indices {
		index = append(index, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: 1},
			bpf.Jump{Skip: uint32(2*(len(s.indices)-i) - 1)})
	}
	if len(s.indices) > 0 {
		index = append(index, bpf.RetConstant{Val: 0})
	}
	named := []bpf.Instruction{bpf.LoadAbsolute{Off: atIndex, Size: 4}}
	responded := []bpf.Instruction{bpf.LoadAbsolute{Off: atAnswered, Size: 4}, bpf.Jump{Skip: uint32(len(named))}}

	past := uint32(len(responded) + len(named) + len(index)) // from the end of begun to peers
	begun := append(oneIn(s.initShare), bpf.Jump{Skip: past})

	probe := []bpf.Instruction{bpf.LoadAbsolute{Off: atProber, Size: 4}}
	for _, v := range s.probers {
		probe = append(probe, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: 1}, bpf.RetConstant{Val: whole})
	}
	probe = append(append(probe, oneIn(s.probeShare)...), bpf.RetConstant{Val: whole})

	answer := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atPayload, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: stunResponse, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: stunError, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.Jump{Skip: uint32(len(probe)+len(begun)+len(peers)) + past},
	}

	toProbe := uint32(len(answer)) // from the end of head, as the others
	toBegun := toProbe + uint32(len(probe))
	toResponded := toBegun + uint32(len(begun))
	toNamed := toResponded + uint32(len(responded))
	kinds := []struct{ first, skip uint32 }{{data << 24, toNamed}, {response << 24, toResponded},
		{cookieReply << 24, toNamed}, {initiation << 24, toBegun}, {discoMagic, toProbe}}
	head := []bpf.Instruction{bpf.LoadAbsolute{Off: atPayload, Size: 4}}
	for i, k := range kinds {
		head = append(head, bpf.JumpIf{Cond: bpf.JumpEqual, Val: k.first, SkipFalse: 1},
			bpf.Jump{Skip: k.skip + uint32(2*(len(kinds)-i-1))})
	}
	return slices.Concat(head, answer, probe, begun, responded, named, index, peers, servers)
}

// oneIn goes on with one packet in share and drops the others.
func oneIn(share int) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: ^uint32(0) / uint32(share), SkipFalse: 1},
		bpf.RetConstant{Val: 0}}
}

// sources lets through what comes from one of the addresses, those of the packet's family
// one after the other, and drops the rest.
func sources(known []netip.AddrPort) (p []bpf.Instruction) {
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
	drop := bpf.RetConstant{Val: 0}
	p = append(p, bpf.LoadAbsolute{Off: atPort, Size: 2}, bpf.StoreScratch{Src: bpf.RegA, N: 0},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(four)) + 1})
	p = append(append(p, four...), drop)
	return append(append(p, six...), drop)
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
