package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Proto is the protocol of a rule.
type Proto uint8

// The protocols a rule can name. Any is the only one that matches a packet whose
// protocol the filter cannot parse.
const (
	Any Proto = iota + 1
	TCP
	UDP
	ICMP // ICMPv4 and ICMPv6
)

var protoNames = [...]string{Any: "any", TCP: "tcp", UDP: "udp", ICMP: "icmp"}

func (p Proto) String() string {
	if int(p) < len(protoNames) && p != 0 {
		return protoNames[p]
	}
	return "proto(" + strconv.Itoa(int(p)) + ")"
}

// ParseProto reads any, tcp, udp or icmp.
func ParseProto(s string) (Proto, error) {
	if i := slices.Index(protoNames[:], s); i > 0 {
		return Proto(i), nil
	}
	return 0, fmt.Errorf("protocol %.20q: want any, tcp, udp or icmp", s)
}

// MarshalText writes the name of the protocol.
func (p Proto) MarshalText() ([]byte, error) {
	if p == 0 || int(p) >= len(protoNames) {
		return nil, fmt.Errorf("protocol %d has no name", p)
	}
	return []byte(protoNames[p]), nil
}

// UnmarshalText reads the name of a protocol.
func (p *Proto) UnmarshalText(b []byte) (err error) {
	*p, err = ParseProto(string(b))
	return err
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ Lo, Hi uint16 }

// Ports is what a rule allows: nil means every port. Its text is "22,80,8000-8100".
type Ports []PortRange

// ParsePorts reads a list of ports and ranges. The order and overlaps are kept:
// a document reads back as it was written.
func ParsePorts(s string) (Ports, error) {
	parts := strings.Split(s, ",")
	if len(parts) > MaxPortRanges {
		return nil, fmt.Errorf("%d port ranges, at most %d", len(parts), MaxPortRanges)
	}
	ports := make(Ports, 0, len(parts))
	for _, part := range parts {
		r, err := parsePortRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ports = append(ports, r)
	}
	return ports, nil
}

func parsePortRange(s string) (PortRange, error) {
	lo, hi, isRange := strings.Cut(s, "-")
	if !isRange {
		hi = lo
	}
	a, errA := parsePort(lo)
	b, errB := parsePort(hi)
	if err := errors.Join(errA, errB); err != nil {
		return PortRange{}, fmt.Errorf("port %.20q: want a number from 1 to 65535 or a range like 8000-8100", s)
	}
	if a > b {
		return PortRange{}, fmt.Errorf("port range %s is reversed: write %d-%d", s, b, a)
	}
	return PortRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	if s == "" || s[0] == '+' || (len(s) > 1 && s[0] == '0') {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

func (r PortRange) String() string {
	if r.Lo == r.Hi {
		return strconv.Itoa(int(r.Lo))
	}
	return strconv.Itoa(int(r.Lo)) + "-" + strconv.Itoa(int(r.Hi))
}

func (p Ports) String() string {
	s := make([]string, len(p))
	for i, r := range p {
		s[i] = r.String()
	}
	return strings.Join(s, ",")
}

// Contains reports whether port is allowed; nil allows every port.
func (p Ports) Contains(port uint16) bool {
	if p == nil {
		return true
	}
	for _, r := range p {
		if r.Lo <= port && port <= r.Hi {
			return true
		}
	}
	return false
}

// MarshalText writes the list; a nil Ports is written as null by encoding/json's
// omitzero, never as an empty list, which would allow nothing.
func (p Ports) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a list.
func (p *Ports) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePorts(string(b))
	return err
}
