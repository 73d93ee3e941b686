package bench

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// forge returns how to send datagrams to an address in the name of another. It needs the
// privilege of raw sockets.
func forge(from, to netip.AddrPort) (write func([]byte) error, stop func(), err error) {
	if from.Addr().Is4() != to.Addr().Is4() {
		return nil, nil, errors.ErrUnsupported
	}
	const udp = 8
	var head []byte // of IP; the kernel adds the length and checksum of IPv4
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: to.Addr().Unmap().As4()})
	if from.Addr().Is4() {
		head = make([]byte, 20)
		head[0], head[8], head[9] = 0x45, 64, unix.IPPROTO_UDP
		copy(head[12:], from.Addr().AsSlice())
		copy(head[16:], to.Addr().AsSlice())
	} else {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16()}
		head = make([]byte, 40)
		head[0], head[6], head[7] = 0x60, unix.IPPROTO_UDP, 64
		copy(head[8:], from.Addr().AsSlice())
		copy(head[24:], to.Addr().AsSlice())
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	ip := len(head)
	b := append(make([]byte, 0, 2048), head...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(b, make([]byte, 4)...)
	return func(payload []byte) error {
		n := udp + len(payload)
		binary.BigEndian.PutUint16(b[ip+4:], uint16(n))
		packet := append(b, payload...)
		if ip == 40 { // IPv4 does without a checksum
			binary.BigEndian.PutUint16(packet[4:], uint16(n))
			packet[ip+6], packet[ip+7] = 0, 0
			binary.BigEndian.PutUint16(packet[ip+6:], checksum(packet[8:], unix.IPPROTO_UDP+n))
		}
		_, err := unix.Write(fd, packet)
		return err
	}, func() { unix.Close(fd) }, nil
}

// checksum is RFC 1071's of b behind what is already summed.
func checksum(b []byte, start int) uint16 {
	sum := uint64(start)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
