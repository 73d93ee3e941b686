package link

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// inMessages is how many messages one recvmmsg may bring. One of them is up to 64
	// KiB of equal datagrams that the kernel has joined (UDP_GRO), so few are enough.
	inMessages = 8
	// bulk is the size of a message from which on more are expected behind it.
	bulk = 4 << 10
	// maxMessage is the largest UDP payload, joined or not.
	maxMessage = 1 << 16
	// maxSegments and maxSegmented bound what one UDP_SEGMENT message may carry, in
	// datagrams and bytes: UDP_MAX_SEGMENTS, and 64 KiB with all headers. A message
	// that is larger with its link header is not refused but taken apart by the
	// kernel before it reaches the device, which costs more than half the speed.
	maxSegments  = 64
	maxSegmented = 65535 - 40 - 8 - 64
)

// batcher moves many datagrams in one system call over a socket of the kernel: sendmmsg
// with UDP_SEGMENT and recvmmsg with UDP_GRO. What the kernel refuses is done without,
// from then on. Its sending half is for any number of goroutines, the other for one.
type batcher struct {
	raw   syscall.RawConn
	v4    bool        // the socket knows IPv4 only
	room  int         // what the kernel holds until it is read, see Link.Room
	whole atomic.Bool // no UDP_SEGMENT: the kernel or a device refused it
	in    inBatch
}

// newBatcher returns nil for a socket that is none of the kernel's.
func newBatcher(pc PacketConn) *batcher {
	b := newSender(pc)
	if b == nil {
		return nil
	}
	// Best effort: old kernels have none.
	_ = b.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	b.in.init()
	return b
}

// newSender is newBatcher for the sending half alone: what comes is read one by one.
func newSender(pc PacketConn) *batcher {
	c, ok := pc.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	b := &batcher{raw: raw}
	err = raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		b.v4 = err == nil && domain == unix.AF_INET
		// Best effort: what the system allows everybody may be less than a privileged
		// process may take.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		b.room, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) // 0 when it fails
	})
	if err != nil {
		return nil
	}
	return b
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// outBatch is what one send needs; it is used again.
type outBatch struct {
	msgs  [batch]mmsghdr
	iovs  [batch]unix.Iovec
	ctl   [batch][24]byte // room for one control message with a uint16
	to4   unix.RawSockaddrInet4
	to6   unix.RawSockaddrInet6
	at, n int
	err   error
	write func(fd uintptr) bool // made once: a closure for each send would be an allocation
}

var outBatches = sync.Pool{New: func() any {
	o := new(outBatch)
	o.write = o.doWrite
	return o
}}

// send sends bufs, in order, and returns how many were. The error is about the next one.
func (b *batcher) send(bufs [][]byte, to netip.AddrPort) (int, error) {
	o := outBatches.Get().(*outBatch)
	defer outBatches.Put(o)
	sent := 0
	whole := b.whole.Load()
	for sent < len(bufs) {
		some := bufs[sent:min(len(bufs), sent+batch)]
		b.fill(o, some, to, whole)
		if err := b.raw.Write(o.write); err != nil {
			return sent, err
		}
		for i := range o.at {
			sent += int(o.msgs[i].hdr.Iovlen)
		}
		clear(o.iovs[:len(some)]) // a pool must not keep the device's buffers alive
		if o.err == nil {
			continue
		}
		refused := errors.Is(o.err, unix.EIO) || errors.Is(o.err, unix.EINVAL)
		if whole || !refused || o.msgs[o.at].hdr.Iovlen == 1 {
			return sent, o.err
		}
		// EIO: this device cannot; EINVAL: a datagram is larger than the path takes
		// at once, which without UDP_SEGMENT becomes fragments.
		whole = true
		if errors.Is(o.err, unix.EIO) {
			b.whole.Store(true)
		}
	}
	return sent, nil
}

// fill makes messages of bufs: a run of equal ones, and a shorter one at its end, is one.
func (b *batcher) fill(o *outBatch, bufs [][]byte, to netip.AddrPort, whole bool) {
	name, nameLen := b.address(o, to)
	o.at, o.n, o.err = 0, 0, nil
	for i := 0; i < len(bufs); {
		size, total, k := len(bufs[i]), 0, 0
		for i+k < len(bufs) && k < maxSegments {
			n := len(bufs[i+k])
			if n > size || n == 0 || total+n > maxSegmented || (whole && k == 1) {
				break
			}
			o.iovs[i+k].Base = &bufs[i+k][0]
			o.iovs[i+k].SetLen(n)
			total += n
			if k++; n < size {
				break
			}
		}
		if k == 0 { // empty, or larger than any datagram: let the kernel say so
			o.iovs[i] = unix.Iovec{}
			if size > 0 {
				o.iovs[i].Base = &bufs[i][0]
				o.iovs[i].SetLen(size)
			}
			k = 1
		}
		h := &o.msgs[o.n].hdr
		*h = unix.Msghdr{Name: name, Namelen: nameLen, Iov: &o.iovs[i]}
		h.SetIovlen(k)
		if k > 1 {
			c := (*unix.Cmsghdr)(unsafe.Pointer(&o.ctl[o.n][0]))
			c.Level, c.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			c.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(o.ctl[o.n][unix.CmsgLen(0):], uint16(size))
			h.Control = &o.ctl[o.n][0]
			h.SetControllen(unix.CmsgSpace(2))
		}
		o.n++
		i += k
	}
}

func (b *batcher) address(o *outBatch, to netip.AddrPort) (*byte, uint32) {
	if b.v4 && to.Addr().Unmap().Is4() {
		o.to4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().Unmap().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&o.to4.Port))[:], to.Port())
		return (*byte)(unsafe.Pointer(&o.to4)), unix.SizeofSockaddrInet4
	}
	o.to6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&o.to6.Port))[:], to.Port())
	if z := to.Addr().Zone(); z != "" {
		o.to6.Scope_id = scopeOf(z)
	}
	return (*byte)(unsafe.Pointer(&o.to6)), unix.SizeofSockaddrInet6
}

// scopeOf is the number of the interface that a zone names.
func scopeOf(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// doWrite sends what is left of the batch; false: wait until the socket takes more.
func (o *outBatch) doWrite(fd uintptr) bool {
	for o.at < o.n {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.msgs[o.at])), uintptr(o.n-o.at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			o.at += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			o.err = errno
			return true
		}
	}
	return true
}

// inBatch is what one recvmmsg brought and has not been handed out yet.
type inBatch struct {
	msgs  [inMessages]mmsghdr
	iovs  [inMessages]unix.Iovec
	names [inMessages]unix.RawSockaddrInet6
	ctl   [inMessages][64]byte
	bufs  [inMessages][]byte
	at, n int
	err   error
	read  func(fd uintptr) bool
}

func (in *inBatch) init() {
	// One block, of which only what messages fill is ever touched.
	block := make([]byte, inMessages*maxMessage)
	for i := range in.msgs {
		in.bufs[i] = block[i*maxMessage : (i+1)*maxMessage]
		in.iovs[i].Base = &in.bufs[i][0]
		in.iovs[i].SetLen(maxMessage)
	}
	in.read = in.doRead
}

func (in *inBatch) doRead(fd uintptr) bool {
	ask := inMessages
	if in.n <= 1 && int(in.msgs[0].len) < bulk {
		ask = 1 // a second one is unlikely: spare the kernel the look
	}
	for i := range in.msgs[:ask] {
		in.msgs[i].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&in.names[i])), Namelen: unix.SizeofSockaddrInet6,
			Iov: &in.iovs[i], Control: &in.ctl[i][0]}
		in.msgs[i].hdr.SetIovlen(1)
		in.msgs[i].hdr.SetControllen(len(in.ctl[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.msgs[0])), uintptr(ask), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.at, in.n, in.err = 0, int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			in.at, in.n, in.err = 0, 0, errno
		}
		return true
	}
}

// receive returns the next message: data of datagrams of size bytes each, the last one
// maybe shorter, that came from one address. It waits if there is none, as long as the
// read deadline lets it. The data is good until the next call.
func (b *batcher) receive() (data []byte, size int, from netip.AddrPort, err error) {
	in := &b.in
	if in.at == in.n {
		if err := b.raw.Read(in.read); err != nil {
			return nil, 0, from, err
		}
		if in.err != nil {
			return nil, 0, from, in.err
		}
	}
	i := in.at
	in.at++
	data = in.bufs[i][:min(int(in.msgs[i].len), maxMessage)]
	size = joined(in.ctl[i][:min(int(in.msgs[i].hdr.Controllen), len(in.ctl[i]))])
	if size <= 0 || size > len(data) {
		size = len(data)
	}
	return data, size, addressOf(&in.names[i]), nil
}

// ready reports whether receive has something without asking the kernel.
func (b *batcher) ready() bool { return b.in.at < b.in.n }

// joined reads the size of the datagrams that UDP_GRO joined; 0: it did not.
func joined(ctl []byte) int {
	for len(ctl) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(ctl)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 2 {
			if len(data) >= 4 {
				return int(int32(binary.NativeEndian.Uint32(data)))
			}
			return int(binary.NativeEndian.Uint16(data))
		}
		ctl = rest
	}
	return 0
}

func addressOf(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if name.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr), port)
	}
	a := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 && a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.Itoa(int(name.Scope_id)))
	}
	return netip.AddrPortFrom(a, port)
}
