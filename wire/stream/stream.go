// Package stream puts the datagrams of two systems onto a TCP connection between them,
// for networks where UDP does not pass.
//
//	+------------+------------------+
//	| length, BE | datagram         |
//	| 2          | length bytes     |
//	+------------+------------------+
//
// A datagram is what the same two would send by UDP: a WireGuard message or a disco packet
// (wire/disco). The connection is mutual TLS 1.3 with both SVIDs; before it, the caller
// proves in its ClientHello that it is a peer (Knock), so that a stranger learns not even
// whom it has reached. The first datagram is the listener's pong to the knock, which says
// that the caller was let in.
//
// The package reads and writes bytes. It refuses a length of nothing, or of more than
// MaxDatagram, before anything of the datagram is waited for. Format: docs/format/stream.md.
// Why so: docs/decisions/0169.
package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"enclave/wire/disco"
)

// ALPN is the protocol name by which caller and listener know each other.
const ALPN = "enclave-direct/1"

// Sizes in bytes.
const (
	HeaderLen = 2

	// MaxDatagram is more than the largest tunnel sends.
	MaxDatagram = disco.MaxPadded

	// maxKnock is what one name in a ClientHello's list of protocols may have (RFC 7301
	// section 3.1).
	maxKnock = 255
)

// ErrLength is returned for a datagram that nobody sends. The connection ends with it: the
// reader no longer knows where the next one starts.
var ErrLength = errors.New("stream: no datagram has this length")

// Append appends a datagram. It returns ErrLength, and b as it was, for one that none may
// carry.
func Append(b, datagram []byte) ([]byte, error) {
	if len(datagram) == 0 || len(datagram) > MaxDatagram {
		return b, ErrLength
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(datagram))), datagram...), nil
}

// Reader reads datagrams from a connection. It belongs to one goroutine.
type Reader struct {
	r    *bufio.Reader
	used int // of what Next returned last
}

// readerSize takes a TLS record of 16 KiB with what was left of the one before.
const readerSize = 20 << 10

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, readerSize)} }

// Next returns the next datagram, which is valid until the next call. At the end between
// two the error is io.EOF, within one io.ErrUnexpectedEOF.
func (r *Reader) Next() ([]byte, error) {
	_, _ = r.r.Discard(r.used) // it is in the buffer
	r.used = 0
	h, err := r.r.Peek(HeaderLen)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(h))
	if n == 0 || n > MaxDatagram {
		return nil, ErrLength
	}
	b, err := r.r.Peek(HeaderLen + n)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	r.used = len(b)
	return b[HeaderLen:], nil
}

// Protocols is what a caller names in its ClientHello: ALPN, and a disco ping, sealed for
// the listener, as a protocol that nobody has heard of.
func Protocols(knock []byte) []string { return []string{ALPN, string(knock)} }

// Knock returns the sealed ping that a ClientHello carries, nil when it carries none.
func Knock(protocols []string) []byte {
	if len(protocols) != 2 || protocols[0] != ALPN || len(protocols[1]) > maxKnock || !disco.LooksLike([]byte(protocols[1])) {
		return nil
	}
	return []byte(protocols[1])
}
