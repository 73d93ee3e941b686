package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// Values of RFC 1928 and RFC 1929.
const (
	socksVersion = 5
	authVersion  = 1

	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	cmdConnect   = 1
	cmdAssociate = 3

	addrIPv4 = 1
	addrName = 3
	addrIPv6 = 4

	replyOK         = 0x00
	replyBadCommand = 0x07
	replyBadAddress = 0x08
)

var (
	errVersion  = errors.New("not SOCKS version 5")
	errAddress  = errors.New("address type is none of IPv4, name and IPv6")
	errName     = errors.New("the name is no host name")
	errShort    = errors.New("datagram ends in its header")
	errFragment = errors.New("fragmented datagram")
)

// destination is what a client asks for: a name that we resolve, or an address.
//
//	type 1 | address: 4 bytes, or 16, or length 1 and name | port 2, big endian
type destination struct {
	name string     // empty for an address
	addr netip.Addr // unset for a name
	port uint16
}

func (d destination) String() string {
	if d.name != "" {
		return net.JoinHostPort(d.name, strconv.Itoa(int(d.port)))
	}
	return netip.AddrPortFrom(d.addr, d.port).String()
}

// parseDestination reads one from the start of b and returns the rest. A name that
// spells an address becomes one, so that each target has a single form.
func parseDestination(b []byte) (d destination, rest []byte, err error) {
	if len(b) < 1 {
		return d, nil, errShort
	}
	size, head := 0, 1
	switch b[0] {
	case addrIPv4:
		size = 4
	case addrIPv6:
		size = 16
	case addrName:
		if len(b) < 2 {
			return d, nil, errShort
		}
		size, head = int(b[1]), 2
	default:
		return d, nil, errAddress
	}
	if len(b) < head+size+2 {
		return d, nil, errShort
	}
	host := b[head : head+size]
	d.port = binary.BigEndian.Uint16(b[head+size:])
	rest = b[head+size+2:]
	if b[0] != addrName {
		d.addr, _ = netip.AddrFromSlice(host)
		d.addr = d.addr.Unmap()
		return d, rest, nil
	}
	if a, err := netip.ParseAddr(string(host)); err == nil && a.Zone() == "" {
		d.addr = a.Unmap()
		return d, rest, nil
	}
	if !validHost(string(host)) {
		return d, nil, errName
	}
	d.name = string(host)
	return d, rest, nil
}

// appendDestination is the inverse of parseDestination.
func appendDestination(b []byte, d destination) []byte {
	switch {
	case d.name != "":
		b = append(b, addrName, byte(len(d.name)))
		b = append(b, d.name...)
	case d.addr.Is6():
		b = append(b, addrIPv6)
		b = append(b, d.addr.AsSlice()...)
	default:
		b = append(b, addrIPv4)
		a4 := netip.IPv4Unspecified().As4()
		if d.addr.Is4() {
			a4 = d.addr.As4()
		}
		b = append(b, a4[:]...)
	}
	return binary.BigEndian.AppendUint16(b, d.port)
}

// readRequest reads a request: version, command, a reserved byte and a destination.
// An error that is not of the connection itself comes with the command.
func readRequest(r io.Reader) (cmd byte, d destination, err error) {
	var b [4 + 1 + 255 + 2]byte
	if _, err := io.ReadFull(r, b[:5]); err != nil {
		return 0, d, err
	}
	if b[0] != socksVersion {
		return 0, d, errVersion
	}
	size := 0
	switch b[3] {
	case addrIPv4:
		size = 4 + 2 - 1
	case addrIPv6:
		size = 16 + 2 - 1
	case addrName:
		size = int(b[4]) + 2
	default:
		return b[1], d, errAddress
	}
	if _, err := io.ReadFull(r, b[5:5+size]); err != nil {
		return 0, d, err
	}
	d, _, err = parseDestination(b[3 : 5+size])
	return b[1], d, err
}

// parseDatagram splits what a client sends to an association:
//
//	reserved 2 | fragment 1 | destination | data
func parseDatagram(b []byte) (destination, []byte, error) {
	if len(b) < 3 {
		return destination{}, nil, errShort
	}
	if b[2] != 0 {
		return destination{}, nil, errFragment
	}
	return parseDestination(b[3:])
}

// appendDatagram is the inverse of parseDatagram.
func appendDatagram(b []byte, d destination, data []byte) []byte {
	b = appendDestination(append(b, 0, 0, 0), d)
	return append(b, data...)
}

// endpoint is the address of a connection as a destination.
func endpoint(a net.Addr) destination {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return destination{addr: ap.Addr().Unmap(), port: ap.Port()}
}
